/** What a child needs of the parent's environment to find programs and speak its language. */
const passedOn = ['PATH', 'LANG', 'LC_ALL', 'TZ', 'TMPDIR'] as const

/**
 * The environment of a test daemon: a short list of the parent's variables, `home` as HOME, and what the test adds (undefined takes one away).
 * So nothing that configures the developer's own purser, AWS, Vault, systemd unit or Node reaches it.
 */
export function childEnv(
  home: string,
  added: Readonly<Record<string, string | undefined>>,
  parent: Readonly<Record<string, string | undefined>> = process.env,
): Record<string, string> {
  const all = [
    ...passedOn.map((name) => [name, parent[name]] as const),
    ['HOME', home] as const,
    ...Object.entries(added),
  ]
  const env: Record<string, string> = {}
  for (const [name, value] of all) {
    if (value === undefined) delete env[name]
    else env[name] = value
  }
  return env
}
