/**
 * The rules of money, as functions of state and command. Amounts are bigint micro-dollars. Whoever calls them does so
 * inside the transaction that writes what they decide, so that no two decisions see the same headroom.
 */

/** What may be spent: in one trade, in one UTC day, and open at once. */
export type Limits = {
  readonly perTradeMicros: bigint
  readonly dailyMicros: bigint
  readonly exposureMicros: bigint
}

/** The state a decision about one user, and one of its credentials where there is one, depends on. */
export type Account = {
  readonly limits: Limits
  /** `spent` is captured and recorded on the ledger's day or later, `open` captured and not closed. */
  readonly user: { readonly heldMicros: bigint; readonly openMicros: bigint; readonly spentMicros: bigint }
  readonly credential: {
    readonly dailyLimitMicros: bigint | null
    readonly heldMicros: bigint
    readonly spentMicros: bigint
  } | null
}

export type Level = 'per_trade' | 'credential_daily' | 'user_daily' | 'exposure'

/** Why an amount is not granted. `usedMicros` is 0 for per_trade. */
export type Denial = {
  readonly level: Level
  readonly limitMicros: bigint
  readonly usedMicros: bigint
  readonly availableMicros: bigint
}

/** What is left at each level; null for the credential where it has no limit of its own. */
export type Remaining = {
  readonly perTradeMicros: bigint
  readonly credentialDailyMicros: bigint | null
  readonly userDailyMicros: bigint
  readonly exposureMicros: bigint
}

/** What is left of a limit; never below 0, also where a record or a lowered limit has passed it. */
export function headroom(limitMicros: bigint, usedMicros: bigint): bigint {
  return usedMicros >= limitMicros ? 0n : limitMicros - usedMicros
}

/** The levels beyond the single trade with their limits and what is used of them, in the order they are checked. */
function levelsOf(account: Account): { level: Level; limitMicros: bigint; usedMicros: bigint }[] {
  const { user, credential, limits } = account
  const levels: { level: Level; limitMicros: bigint; usedMicros: bigint }[] = []
  if (credential !== null && credential.dailyLimitMicros !== null) {
    const usedMicros = credential.spentMicros + credential.heldMicros
    levels.push({ level: 'credential_daily', limitMicros: credential.dailyLimitMicros, usedMicros })
  }
  // A hold counts in every day it is open in: it may be captured on any of them.
  levels.push({
    level: 'user_daily',
    limitMicros: limits.dailyMicros,
    usedMicros: user.spentMicros + user.heldMicros,
  })
  levels.push({
    level: 'exposure',
    limitMicros: limits.exposureMicros,
    usedMicros: user.openMicros + user.heldMicros,
  })
  return levels
}

/** The first level that does not allow `amountMicros` more, null where all do. */
export function denial(account: Account, amountMicros: bigint): Denial | null {
  const { perTradeMicros } = account.limits
  if (amountMicros > perTradeMicros) {
    return {
      level: 'per_trade',
      limitMicros: perTradeMicros,
      usedMicros: 0n,
      availableMicros: perTradeMicros,
    }
  }
  for (const { level, limitMicros, usedMicros } of levelsOf(account)) {
    const availableMicros = headroom(limitMicros, usedMicros)
    if (amountMicros > availableMicros) return { level, limitMicros, usedMicros, availableMicros }
  }
  return null
}

export function remainingOf(account: Account): Remaining {
  const { user, credential, limits } = account
  return {
    perTradeMicros: limits.perTradeMicros,
    credentialDailyMicros:
      credential === null || credential.dailyLimitMicros === null
        ? null
        : headroom(credential.dailyLimitMicros, credential.spentMicros + credential.heldMicros),
    userDailyMicros: headroom(limits.dailyMicros, user.spentMicros + user.heldMicros),
    exposureMicros: headroom(limits.exposureMicros, user.openMicros + user.heldMicros),
  }
}

/** What each command does to the totals. */
export type Change = {
  readonly heldMicros: bigint
  readonly openMicros: bigint
  readonly spentMicros: bigint
}

/** A hold of `amountMicros`. */
export function held(amountMicros: bigint): Change {
  return { heldMicros: amountMicros, openMicros: 0n, spentMicros: 0n }
}

/** Holds given back, by a void or because their time was over. */
export function released(amountMicros: bigint): Change {
  return { heldMicros: -amountMicros, openMicros: 0n, spentMicros: 0n }
}

/** Part of a hold that became a position, and part that is given back with it. */
export function captured(amountMicros: bigint, releasedMicros: bigint): Change {
  return { heldMicros: -amountMicros - releasedMicros, openMicros: amountMicros, spentMicros: amountMicros }
}

/** A buy that happened without a hold. */
export function recorded(amountMicros: bigint): Change {
  return { heldMicros: 0n, openMicros: amountMicros, spentMicros: amountMicros }
}

/** Cost of a position that is no longer open: frees exposure only. */
export function closed(amountMicros: bigint): Change {
  return { heldMicros: 0n, openMicros: -amountMicros, spentMicros: 0n }
}

/** The account after `change`. Throws RangeError where a total would fall below 0: a bug, never a caller's doing. */
export function applied(account: Account, change: Change): Account {
  const user = {
    heldMicros: account.user.heldMicros + change.heldMicros,
    openMicros: account.user.openMicros + change.openMicros,
    spentMicros: account.user.spentMicros + change.spentMicros,
  }
  const credential =
    account.credential === null
      ? null
      : {
          ...account.credential,
          heldMicros: account.credential.heldMicros + change.heldMicros,
          spentMicros: account.credential.spentMicros + change.spentMicros,
        }
  if (user.heldMicros < 0n || user.openMicros < 0n || (credential !== null && credential.heldMicros < 0n)) {
    throw new RangeError('a total of the ledger fell below zero')
  }
  return { limits: account.limits, user, credential }
}

/**
 * The most the wallet can have open if every hold is captured and everything still allowed today is spent: open, held
 * and the smaller of what is left today and of exposure, that last part 0 while nothing more is granted.
 */
export function worstCaseMicros(account: Account, frozen: boolean): bigint {
  const { userDailyMicros, exposureMicros } = remainingOf(account)
  const stake = account.user.openMicros + account.user.heldMicros
  if (frozen) return stake
  return stake + (exposureMicros > userDailyMicros ? userDailyMicros : exposureMicros)
}
