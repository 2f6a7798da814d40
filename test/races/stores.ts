import { fileURLToPath } from 'node:url'
import type { StartPurserOptions } from '../../src/testing/index.ts'

const delayed = fileURLToPath(new URL('../support/delayed-purserd', import.meta.url))

/** A race runs on the store as it is, and on one that awaits every query, where more can come in between. */
export const stores: { store: string; options: StartPurserOptions }[] = [
  { store: 'direct', options: {} },
  { store: 'delayed', options: { launcher: delayed } },
]
