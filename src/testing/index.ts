/**
 * `purser/testing`: a real purserd for other people's tests.
 *
 *     import { startPurser } from 'purser/testing'
 *
 *     await using purser = await startPurser({ fastKdf: true })
 *     const client = await purser.client()
 */
export { type ExitStatus, type ReadyLine, StartPurserError } from './daemon-process.ts'
export { type StartPurserOptions, startPurser, TestPurser } from './start-purser.ts'
