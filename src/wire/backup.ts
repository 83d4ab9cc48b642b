import { endpoint } from './endpoint.ts'

/** Ours only. */
export const getBackup = endpoint('GET', '/api/v1/backup', {
  doc: 'Everything of this moment as a tar archive: database, logs, diffs and attestations, without keys and cookie.',
  caller: 'admin',
  reply: { special: 'bytes', type: 'application/x-tar' },
  upstream: false,
})
