import type { CredentialMetadata } from '../../client/index.ts'
import type { Colour } from '../text/style.ts'
import type { Column } from '../text/table.ts'
import { flatten, formatPairs, shown } from '../text/values.ts'

const statusColours: Readonly<Record<string, Colour>> = { active: 'green', revoked: 'red', expired: 'yellow' }

const credentialColumns: readonly Column<CredentialMetadata>[] = [
  { title: 'ID', value: (credential) => String(credential.credentialId), align: 'right', keep: true },
  { title: 'USER', value: (credential) => credential.userId, keep: true },
  { title: 'NAME', value: (credential) => shown(credential.name) },
  {
    title: 'STATUS',
    value: (credential) => credential.status,
    keep: true,
    colour: (credential) => statusColours[credential.status] ?? null,
  },
  { title: 'PRIMARY', value: (credential) => (credential.isPrimary ? 'yes' : '-') },
  {
    title: 'PRIVATE KEY',
    value: (credential) => (credential.hasPrivateKey ? credential.privateKeyPolicy : '-'),
  },
  { title: 'DAILY', value: (credential) => shown(credential.dailySpendLimitUsd), align: 'right' },
  { title: 'EXPIRES', value: (credential) => shown(credential.expiresAt) },
  { title: 'LAST USED', value: (credential) => shown(credential.lastUsedAt) },
  { title: 'ADDRESS', value: (credential) => shown(credential.address) },
]
/** The table of `credentials list` and `expiring`. */
export const listView = { plural: 'credentials', columns: credentialColumns } as const

/** Metadata for people. */
export const describeCredential = (credential: CredentialMetadata): string => formatPairs(flatten(credential))
