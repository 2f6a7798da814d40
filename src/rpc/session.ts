export type { Session } from '../access/session.ts'
