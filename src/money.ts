/** Micro-dollars in one dollar. All money inside purser is bigint micro-dollars. */
const microsPerDollar = 1_000_000n

/** Numbers at or above this many dollars must come as strings (protocol, section 1). */
const numberBoundUsd = 1_000_000_000

/** The largest amount or limit there is: 10^12 dollars. It keeps every sum of the ledger far inside SQLite's 64 bits. */
export const maxUsdMicros = 1_000_000_000_000n * microsPerDollar

const decimalUsd = /^(0|[1-9][0-9]{0,12})(?:\.([0-9]{1,6}))?$/

/**
 * Reads dollars into micro-dollars, or null where `value` is not of the protocol's shape: a decimal string with at
 * most 6 fraction digits, or a number below 10^9 whose shortest decimal form has that shape; at most 10^12 dollars.
 * Zero is read too: whether it is allowed is the caller's question (limits may be 0, amounts may not).
 */
export function parseUsd(value: string | number): bigint | null {
  if (typeof value === 'number') {
    // String(-0) is "0", which would let a sign through.
    if (!(value < numberBoundUsd) || Object.is(value, -0)) return null
    return parseUsd(String(value))
  }
  const match = decimalUsd.exec(value)
  if (match === null) return null
  const micros = BigInt(match[1]!) * microsPerDollar + BigInt((match[2] ?? '').padEnd(6, '0'))
  return micros <= maxUsdMicros ? micros : null
}

/**
 * Writes micro-dollars as dollars with 2 to 6 fraction digits, no trailing zeros beyond the second. Throws RangeError
 * for a negative amount: no answer has one, so it is a mistake of the caller's.
 */
export function formatUsd(micros: bigint): string {
  if (micros < 0n) throw new RangeError('a negative amount has no form on the wire')
  const fraction = (micros % microsPerDollar)
    .toString()
    .padStart(6, '0')
    .replace(/0{1,4}$/, '')
  return `${micros / microsPerDollar}.${fraction}`
}

/** `used` of `limit` in percent, rounded down to 2 places; 100 where the limit is 0. Both in micro-dollars. */
export function percentOf(used: bigint, limit: bigint): number {
  if (limit === 0n) return 100
  // Rounded down in whole hundredths of a percent first: a division of doubles would round 99.999 up to 100.
  return Number((used * 10_000n) / limit) / 100
}
