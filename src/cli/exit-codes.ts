/** Exit codes of `purser`: documented in --help, stable, the BSD sysexits numbers where one fits. */
export const exitCode = {
  ok: 0,
  refused: 1,
  notFound: 2,
  checkFailed: 3,
  overLimit: 4,
  usage: 64,
  badInput: 65,
  noInput: 66,
  unreachable: 69,
  unforeseen: 70,
  cannotCreate: 73,
  io: 74,
  retryable: 75,
  forbidden: 77,
  notExecutable: 126,
  commandNotFound: 127,
  interrupted: 130,
} as const

export type ExitCode = (typeof exitCode)[keyof typeof exitCode]

/** The part of --help that scripts rely on. A test holds it against the table above. */
export const exitCodeHelp = `Exit codes:
    0  done
    1  refused by the daemon: conflict, revoked, expired, reservation closed, ...
    2  no such user, credential or other thing, or the credential has no such value
    3  the check itself failed: bad audit chain, unhealthy daemon
    4  over a spending limit: nothing was granted
   64  usage: arguments that purser or the daemon does not accept
   65  an input (file, stdin, environment variable) has the wrong content
   66  an input file cannot be read
   69  daemon not reachable, or the connection was lost
   70  unforeseen
   73  a file or directory cannot be made, or exists already
   74  input or output failed
   75  try again later: rate limited, overloaded, sealed, frozen, store not writable, timed out
   77  forbidden
  126  purser exec: the command cannot be executed; 127: it was not found
  130  interrupted at a question
  purser exec otherwise ends with the code of its command, 128+n where signal n ended it.`
