/** Ids of reservations and positions are opaque strings on the wire: a letter and the number of the row. */

export function reservationIdOf(id: bigint): string {
  return `r${id}`
}

export function positionIdOf(id: bigint): string {
  return `p${id}`
}

/** The row a wire id names; 0, which no row has, for anything that is no id of ours. */
export function parseId(id: string): number {
  return /^[rp][1-9]\d{0,14}$/.test(id) ? Number(id.slice(1)) : 0
}
