import { z } from 'zod'
import { parseMasterKey } from '../keysource/parse-key.ts'
import { parseUsd } from '../money.ts'
import { SecretBytes } from '../secret.ts'
import { canonicalApiSecret, parsePrivateKey } from '../service/credentials/secret-forms.ts'
import { scopes } from '../service/grant.ts'

/** Amounts and limits reach to 10^12 dollars. */
const microsMax = 1_000_000_000_000_000_000n
/** Longest secret taken, in bytes; the exchange's have at most 66. */
const secretBytesMax = 1024
const stringBytesMax = 256
const pageMax = 1000
const pageDefault = 100

/** 1 to 256 bytes of well-formed Unicode: apiKey, names, reasons, client strings. */
export const clientString = z
  .string()
  .min(1)
  .refine(
    (text) => text.isWellFormed() && Buffer.byteLength(text) <= stringBytesMax,
    'must be 1 to 256 bytes of well-formed Unicode',
  )

/** A string, or a safe integer read as its decimal string. */
export const userId = z
  .union([z.string().regex(/^[A-Za-z0-9._:@-]{1,128}$/), z.int().nonnegative()], {
    error: 'must be 1 to 128 of A-Z a-z 0-9 . _ : @ -, or a safe integer >= 0',
  })
  .transform(String)

export const credentialId = z.int().positive()

export const clientId = z.int().positive()
/** A uid or gid: 32 bits without the one that means "unchanged" to the kernel. */
export const kernelId = z
  .int()
  .nonnegative()
  .max(2 ** 32 - 2)
/** Users or credentials one client entry may list. */
const grantedMax = 1000
export const grantedUsers = z.union([z.literal('*'), z.array(userId).min(1).max(grantedMax)], {
  error: `must be "*" or a list of 1 to ${grantedMax} userIds`,
})
export const grantedCredentials = z.array(credentialId).max(grantedMax)
export const grantedScopes = z.array(z.enum(scopes)).min(1).max(scopes.length)

/** RFC 3339 with any offset and fraction, leap seconds too; milliseconds since 1970 inside. */
const rfc3339 =
  /^(\d{4}-\d{2}-\d{2})[Tt]((?:[01]\d|2[0-3]):[0-5]\d):([0-5]\d|60)(?:\.(\d+))?([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)$/
/** The years 0000 to 9999 of UTC: an answer could not write any other time. */
const timeRangeMs = { min: Date.UTC(-1, 12, 1), max: Date.UTC(9999, 12, 1) - 1 }
export const timestamp = z
  .string()
  .max(64)
  .refine((text) => parseTime(text) !== null, 'must be an RFC 3339 time such as 2026-11-23T08:00:00Z')
  .transform((text) => parseTime(text)!)

function parseTime(text: string): number | null {
  const parts = rfc3339.exec(text)
  if (parts === null) return null
  const [, date, minute, second, fraction = '', offset] = parts
  // Date rolls 30 February over into March; a day that does not exist is a mistake to be told.
  const day = new Date(`${date}T00:00:00Z`)
  if (Number.isNaN(day.getTime()) || day.toISOString().slice(0, 10) !== date) return null
  const leapMs = second === '60' ? 1000 : 0
  const milliseconds = fraction.slice(0, 3).padEnd(3, '0')
  const atMs =
    Date.parse(`${date}T${minute}:${leapMs > 0 ? '59' : second}.${milliseconds}${offset!.toUpperCase()}`) +
    leapMs
  return atMs >= timeRangeMs.min && atMs <= timeRangeMs.max ? atMs : null
}

/** A limit in USD: 0 allowed. bigint micro-dollars inside. */
export const usdLimit = z
  .union([z.string().max(32), z.number()], { error: 'must be a decimal string such as "250.00"' })
  .refine((value) => {
    const micros = parseUsd(value)
    return micros !== null && micros <= microsMax
  }, 'must be USD as a decimal string with at most 6 fraction digits, such as "250.00", up to 10^12')
  .transform((value) => parseUsd(value)!)

/** An amount in USD: above 0. bigint micro-dollars inside. */
export const usdAmount = usdLimit.refine((micros) => micros > 0n, 'must be above 0')

/** A trade's own id: a string, or a safe integer read as its decimal string. */
export const tradeId = z
  .union([clientString, z.int().nonnegative()], {
    error: 'must be 1 to 256 bytes of text, or a safe integer >= 0',
  })
  .transform(String)

/** The id of a reservation or position, as an answer gave it. */
export const opaqueId = z.string().min(1).max(64)

/** A secret string, cut out of the line before it was parsed. */
export const secret = z
  .custom<SecretBytes>((value) => value instanceof SecretBytes, 'must be a string')
  .refine(
    (value) => value.length >= 1 && value.length <= secretBytesMax,
    `must be 1 to ${secretBytesMax} bytes`,
  )
  .meta({ type: 'string', writeOnly: true })

/** Whether `parse` takes a secret; one of a wrong length is told of already. */
const formedBy = (parse: (given: Buffer) => Buffer) => (value: SecretBytes) => {
  if (value.length < 1 || value.length > secretBytesMax) return true
  try {
    parse(value.bytes).fill(0)
    return true
  } catch {
    return false
  }
}

// Looked at here and not by the service alone, for what is malformed is told before whose it is.
export const apiSecret = secret.refine(
  formedBy(canonicalApiSecret),
  'must be base64 or base64url, as the exchange gave it',
)
export const privateKey = secret.refine(
  formedBy(parsePrivateKey),
  'must be 0x and 64 hex digits, a secp256k1 key in 1..n-1',
)

/** A master key in any form that a key file may have. */
export const masterKey = z.custom<SecretBytes>(isMasterKey, 'must be 32 bytes as base64, base64url or hex')

function isMasterKey(value: unknown): boolean {
  if (!(value instanceof SecretBytes) || value.length > secretBytesMax) return false
  const key = parseMasterKey(value.bytes)
  key?.fill(0)
  return key !== null
}

export const cursor = z.string().min(1).max(256)
export const pageLimit = z.int().min(1).max(pageMax).default(pageDefault)
/** What every list takes. */
export const page = { cursor: cursor.optional(), limit: pageLimit.optional() } as const

export function limitOf(params: { limit?: number | undefined }): number {
  return params.limit ?? pageDefault
}

// What answers are made of.
export const timeOut = z.iso.datetime()
export const usdOut = z.string().regex(/^\d+\.\d{2,6}$/)
export const nextCursor = z.string().nullable()
export const secretOut = z.custom<SecretBytes>().meta({ type: 'string' })
export const policy = z.enum(['exportable', 'sign-only'])

export const credentialMetadata = z.strictObject({
  credentialId: z.int(),
  userId: z.string(),
  name: z.string().nullable(),
  status: z.enum(['active', 'revoked', 'expired']),
  isPrimary: z.boolean(),
  address: z.string().nullable(),
  fingerprint: z.string(),
  hasPrivateKey: z.boolean(),
  privateKeyPolicy: policy,
  dailySpendLimitUsd: usdOut.nullable(),
  createdAt: timeOut,
  updatedAt: timeOut,
  lastUsedAt: timeOut.nullable(),
  expiresAt: timeOut.nullable(),
  revokedAt: timeOut.nullable(),
  revokeReason: z.string().nullable(),
  encryptedAt: timeOut,
  apiSecretRetrievedAt: timeOut.nullable(),
  privateKeyRetrievedAt: timeOut.nullable(),
})

export const credentialPage = z.strictObject({ credentials: z.array(credentialMetadata), nextCursor })

export const client = z.strictObject({
  clientId: z.int(),
  name: z.string(),
  uid: z.int().nullable(),
  gid: z.int().nullable(),
  hasToken: z.boolean(),
  users: z.union([z.literal('*'), z.array(z.string())]),
  credentials: z.array(z.int()).nullable(),
  scopes: z.array(z.enum(scopes)),
  expiresAt: timeOut.nullable(),
  createdAt: timeOut,
  updatedAt: timeOut,
  lastUsedAt: timeOut.nullable(),
})

export const user = z.strictObject({
  userId: z.string(),
  tier: z.string(),
  email: z.string().nullable(),
  limits: z.strictObject({ perTradeUsd: usdOut, dailyUsd: usdOut, exposureUsd: usdOut }),
  settlement: z.enum(['operator', 'cooperative']),
  frozen: z.strictObject({ reason: z.string(), since: timeOut }).nullable(),
  createdAt: timeOut,
})

export const freeze = z.strictObject({ reason: z.string(), since: timeOut })
export const reservationState = z.enum(['held', 'captured', 'voided', 'expired'])

export const remaining = z.strictObject({
  perTradeUsd: usdOut,
  credentialDailyUsd: usdOut.nullable(),
  userDailyUsd: usdOut,
  exposureUsd: usdOut,
})

export const daily = z.strictObject({
  limitUsd: usdOut,
  spentUsd: usdOut,
  reservedUsd: usdOut,
  remainingUsd: usdOut,
  percent: z.number(),
  resetsAt: timeOut,
})
