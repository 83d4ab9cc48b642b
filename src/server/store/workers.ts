import { first, sql, trusted, type Database, type Row, type Sql, type Transaction } from './database.ts'
import { pageOfRows, type Listing, type PageRequest } from './page.ts'
import { putBack } from './queue.ts'

export type WorkerRow = Row & {
  id: number
  key: string
  name: string
  address: string
  status: string | null
  last_ping: string
  online: number
  tags: string
  draining: number
  proven: number
  free: string | null
}

const workers: Listing = {
  columns:
    trusted(`w.id, w.key, w.name, w.address, w.status, w.last_ping, w.online, w.tags, w.draining, w.free,
    EXISTS (SELECT 1 FROM proven_keys p WHERE p.key = w.key) AS proven`),
  from: trusted('workers w'),
  id: 'w.id',
  sorts: {
    id: 'w.id',
    name: 'w.name',
    address: 'w.address',
    status: 'w.status',
    last_ping: 'w.last_ping',
    online: 'w.online',
    is_online: 'w.online',
  },
}

/** One page of workers, and how many there are. */
export async function listWorkerRows(
  db: Database,
  request: PageRequest,
): Promise<{ total: number; rows: WorkerRow[] }> {
  const rows = await pageOfRows<WorkerRow>(db, workers, request, [])
  const count = await first(db.all<{ n: number }>(sql`SELECT count(*) AS n FROM workers`))
  return { total: count?.n ?? 0, rows }
}

/** One worker; null: none has this id. */
export function workerById(db: Database, id: number): Promise<WorkerRow | null> {
  return first(db.all<WorkerRow>(sql`SELECT ${workers.columns} FROM workers w WHERE w.id = ${id}`))
}

/** The worker of a key; null: none has it. */
export function workerByKey(db: Database, key: string): Promise<WorkerRow | null> {
  return first(db.all<WorkerRow>(sql`SELECT ${workers.columns} FROM workers w WHERE w.key = ${key}`))
}

export type NewWorker = { key: string; name: string; address: string; tags: string }

/** Makes a worker known, or gives it a new name; what it did before is over. */
export async function writeWorker(tx: Transaction, worker: NewWorker, now: string): Promise<void> {
  await tx.all(sql`
    INSERT INTO workers (key, name, address, status, last_ping, online, tags, draining, registered_at)
    VALUES (${worker.key}, ${worker.name}, ${worker.address}, NULL, ${now}, 1, ${worker.tags}, 0, ${now})
    ON CONFLICT (key) DO UPDATE SET name = excluded.name, address = excluded.address, tags = excluded.tags, status = NULL,
      last_ping = excluded.last_ping, online = 1`)
}

/** What a worker told of its free memory and disk, as JSON. */
export function freeTold(id: number, free: string): Sql {
  return sql`UPDATE workers SET free = ${free} WHERE id = ${id}`
}

/** From now on the holder of this key has to prove it. */
export function keyProven(key: string, now: string): Sql {
  return sql`INSERT INTO proven_keys (key, since) VALUES (${key}, ${now}) ON CONFLICT (key) DO NOTHING`
}

/** Whether the holder of this key has to prove it. */
export async function isKeyProven(db: Database, key: string): Promise<boolean> {
  return (await db.all(sql`SELECT 1 AS one FROM proven_keys WHERE key = ${key}`)).length > 0
}

/** The key of this worker may be used without a proof again. */
export function keyForgotten(workerId: number): Sql {
  return sql`DELETE FROM proven_keys WHERE key = (SELECT key FROM workers WHERE id = ${workerId})`
}

/** Forgets a worker; a job that it held is free at once. */
export async function deleteWorker(tx: Transaction, id: number, now: string): Promise<boolean> {
  const replies = await tx.batch([
    sql`UPDATE leases SET outcome = 'lost', ended_at = ${now}
         WHERE outcome IS NULL AND id IN (SELECT lease_id FROM jobs WHERE worker_id = ${id} AND state = 'running')`,
    ...putBack(sql`jobs.worker_id = ${id} AND jobs.state = 'running'`),
    sql`DELETE FROM workers WHERE id = ${id} RETURNING id`,
  ])
  return (replies.at(-1) ?? []).length > 0
}

/** Workers that did not call since `deadline` are offline; their ids. */
export function markOffline(deadline: string): Sql {
  return sql`UPDATE workers SET online = 0, status = NULL WHERE online = 1 AND last_ping < ${deadline} RETURNING id`
}

/** Lets a worker drain (finish its job and get no other), or work again; false where there is none of that id. */
export async function drainWorker(tx: Transaction, id: number, isDraining: boolean): Promise<boolean> {
  const rows = await tx.all(sql`UPDATE workers SET draining = ${isDraining} WHERE id = ${id} RETURNING id`)
  return rows.length > 0
}
