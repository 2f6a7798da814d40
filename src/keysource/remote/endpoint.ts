/** 127.0.0.0/8, ::1, and `localhost`, which by RFC 6761 is never asked of a name server. `URL` has normalised the host. */
export function isLoopback(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(hostname)
}

/**
 * What is wrong with `text` as the address of a key service, in words that follow its name, or null: https to
 * anywhere, http to this host alone. The address itself is not repeated, for it may hold a password.
 */
export function endpointProblem(text: string): string | null {
  if (!URL.canParse(text)) return 'is no URL'
  const url = new URL(text)
  if (url.protocol === 'http:') {
    if (!isLoopback(url.hostname)) return 'is http to another host, where the key could be read on the way'
  } else if (url.protocol !== 'https:') return 'is neither https nor http to this host'
  if (url.username !== '' || url.password !== '') return 'holds a user name or password'
  return url.search === '' && url.hash === '' ? null : 'holds a query or a fragment'
}
