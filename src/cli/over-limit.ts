import { shown } from './text/values.ts'

type Data = Readonly<Record<string, unknown>>

/** How people call the levels of protocol section 4. */
const levelNames: Readonly<Record<string, string>> = {
  per_trade: 'limit per trade',
  credential_daily: 'daily limit of the credential',
  user_daily: 'daily limit of the user',
  exposure: 'exposure limit of the user',
}

/** What a SpendLimitExceeded means, and what to do; null for a level this version does not know. */
export function describeOverLimit(data: Data): { readonly message: string; readonly hint: string } | null {
  const level = String(data['level'])
  const name = Object.hasOwn(levelNames, level) ? levelNames[level] : undefined
  if (name === undefined) return null
  const usd = (field: string) => `${shown(data[field])} USD`
  if (level === 'per_trade') {
    return {
      message: `over the ${name}: ${usd('requestedUsd')} asked for, ${usd('limitUsd')} allowed`,
      hint: `ask for ${usd('limitUsd')} or less at once, or raise the limit with purser limits set`,
    }
  }
  return {
    message: `over the ${name}: ${usd('requestedUsd')} asked for, ${usd('availableUsd')} left (${shown(data['usedUsd'])} of ${usd('limitUsd')} used)`,
    hint:
      level === 'exposure'
        ? 'it frees itself as positions are closed and reservations voided or expire, not by the day'
        : `it resets at ${shown(data['resetsAt'])}`,
  }
}
