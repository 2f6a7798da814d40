import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Why no certificates can be made; null where they can. */
export const noOpenssl: string | null =
  spawnSync('openssl', ['version']).status === 0 ? null : 'openssl is not there to make certificates'

/** A CA of a test's own and a server certificate by it for 127.0.0.1 and localhost. */
export type TestCa = {
  readonly directory: string
  readonly caFile: string
  readonly server: { readonly key: string; readonly cert: string }
  readonly remove: () => void
}

/** Makes a CA in a new temporary directory. `remove` takes it away again. */
export function makeCa(): TestCa {
  const directory = mkdtempSync(join(tmpdir(), 'purser-ca-'))
  const path = (name: string) => join(directory, name)
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: directory, stdio: 'ignore' })
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  openssl(
    'req',
    '-x509',
    ...newKey,
    '-keyout',
    'ca.key',
    '-out',
    'ca.pem',
    '-days',
    '2',
    '-subj',
    '/CN=purser test CA',
    '-addext',
    'basicConstraints=critical,CA:TRUE',
  )
  openssl('req', ...newKey, '-keyout', 'server.key', '-out', 'server.csr', '-subj', '/CN=127.0.0.1')
  writeFileSync(path('server.ext'), 'subjectAltName=IP:127.0.0.1,DNS:localhost\n')
  openssl(
    'x509',
    '-req',
    '-in',
    'server.csr',
    '-CA',
    'ca.pem',
    '-CAkey',
    'ca.key',
    '-CAcreateserial',
    '-out',
    'server.pem',
    '-days',
    '2',
    '-extfile',
    'server.ext',
  )
  return {
    directory,
    caFile: path('ca.pem'),
    server: { key: readFileSync(path('server.key'), 'utf8'), cert: readFileSync(path('server.pem'), 'utf8') },
    remove: () => rmSync(directory, { recursive: true, force: true }),
  }
}
