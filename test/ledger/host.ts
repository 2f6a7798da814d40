/** The three clocks of a host, which a test sets as it likes; milliseconds. */
export class Host {
  wall: number
  sinceBoot = 50_000
  monotonic = 50_000
  readonly clocks = {
    wallMs: () => this.wall,
    monotonicMs: () => this.monotonic,
    sinceBootMs: () => this.sinceBoot,
  }

  constructor(wallMs: number) {
    this.wall = wallMs
  }

  pass(ms: number): void {
    this.wall += ms
    this.sinceBoot += ms
    this.monotonic += ms
  }

  /** The monotonic clock stands still in a suspend. */
  suspend(ms: number): void {
    this.wall += ms
    this.sinceBoot += ms
  }

  /** Somebody sets the wall clock. */
  set(byMs: number): void {
    this.wall += byMs
  }

  reboot(): void {
    this.sinceBoot = 0
    this.monotonic = 0
  }
}
