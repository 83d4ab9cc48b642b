import { createHash } from 'node:crypto'
import fs, { constants, createReadStream } from 'node:fs'
import { copyFile, mkdir, open, rm, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { ReadableStream as Stream } from 'node:stream/web'
import { Complaint } from '../errors.ts'
import { getBackup } from '../wire/backup.ts'
import { wireTime } from '../wire/schema.ts'
import { copiesFolder } from './housekeeping.ts'
import type { Mount } from './route.ts'
import type { Service } from './service.ts'
import { called } from './store/blobs.ts'
import { trusted, type Database } from './store/database.ts'
import { blobsAfter } from './store/maintenance.ts'
import { switched } from './store/queue.ts'
import { written } from './store/work.ts'
import { blockSize, checkpointPages } from './store/written.ts'
import { tarEnd, tarHeader, tarPadding } from './tar.ts'

type BackupSite = Pick<Service, 'db' | 'data' | 'holdingStill' | 'now' | 'log' | 'stopping'>

/** Milliseconds that a backup may take: a caller that stops reading must not keep files for ever. */
const longest = 12 * 3_600_000
const blobsAtOnce = 500
/** Blocks that are copied while the database is told to leave its file alone: a few milliseconds each. */
const fewBlocks = 16
/** Kept files up to so many bytes are read whole, so many of them at the same moment. */
const [smallFile, readAtOnce] = [256 * 1024, 16]
/** Bytes that are sent in one piece at least: most kept files are small, and each piece costs as much as their reading. */
const pieceSize = 128 * 1024

/** Mounts the backup of everything, for administrators. */
export function mountBackup(mount: Mount, service: Service): void {
  mount(getBackup, async () => {
    const body = Stream.from(inPieces(backup(service))) as ReadableStream<Uint8Array> // what the generator yields
    return new Response(body, { headers: { 'content-type': getBackup.reply.type, 'accept-ranges': 'none' } })
  })
}

/** The same bytes in fewer pieces. */
async function* inPieces(parts: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let waiting: Uint8Array[] = []
  let length = 0
  for await (const part of parts) {
    waiting.push(part)
    length += part.length
    if (length < pieceSize) continue
    yield waiting.length === 1 ? part : Buffer.concat(waiting)
    waiting = []
    length = 0
  }
  if (length > 0) yield Buffer.concat(waiting)
}

/**
 * Everything of one moment as a tar archive: the database with its write-ahead log, and every file that its rows
 * name. Nothing waits for it: the database is copied file by file beside the work of its thread, and files stay
 * as they are once they are written.
 */
async function* backup(site: BackupSite): AsyncGenerator<Uint8Array> {
  const { log, now, stopping } = site
  const [held, done] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const over = site.holdingStill(() => (held.resolve(), done.promise))
  await held.promise
  const copies = join(site.data, copiesFolder)
  const signal = AbortSignal.any([stopping, AbortSignal.timeout(longest)])
  try {
    const moment = now()
    const last = await copyDatabase(site, copies)
    for (const name of ['rebuilderd.db', 'rebuilderd.db-wal']) yield* file(join(copies, name), name, moment)
    await rm(copies, { recursive: true, force: true }) // it may be large
    const files = yield* blobFiles(site, last, moment, signal)
    yield tarEnd
    log.info(`a backup with ${files} files was made`)
  } finally {
    await rm(copies, { recursive: true, force: true }).finally(() => done.resolve()) // the next one uses the same folder
    await over
  }
}

/**
 * Copies the database as it is at one moment, while it is used. SQLite changes the database's file only when it moves
 * pages from its write-ahead log (sqlite.org/wal.html). What it moves while the file is copied is copied once more;
 * when little is left, it is told not to move any for a moment: then the file stays as it is and the log only grows, so
 * that the file and whatever of the log is there later belong together. Recovery leaves out what was not committed.
 * @returns the newest of the kept files that it can name
 */
async function copyDatabase({ db, data, now }: BackupSite, copies: string): Promise<number> {
  const [file, copied] = [join(data, 'rebuilderd.db'), join(copies, 'rebuilderd.db')]
  await rm(copies, { recursive: true, force: true })
  await mkdir(copies, { mode: 0o700 })
  try {
    await db.writtenBlocks(true)
    const isShared = await sharedCopy(file, copied)
    if (!isShared) await copyWhileUsed(db, file, copied)
    await checkpointAfter(db, 0)
    // A write first: a log that has been moved whole is begun anew by the next write, and from then on only grows.
    await written(db, [switched('backup', '', wireTime(now()))])
    if (isShared) await sharedCopy(file, copied)
    else await copyBlocks(file, copied, await db.writtenBlocks(false))
    await copyBlocks(`${file}-wal`, `${copied}-wal`)
  } catch (error) {
    throw new Complaint('cannot copy the database', {
      cause: error,
      hint: 'the disk of the data folder needs space for one more of it while a backup is made',
    })
  } finally {
    await checkpointAfter(db, checkpointPages)
    await db.writtenBlocks(false)
  }
  const [row] = await db.all<{ last: number | null }>(trusted('SELECT max(id) AS last FROM blobs'))
  return row?.last ?? 0
}

/** Copies the file until few of its blocks have changed meanwhile, or no fewer than the time before. */
async function copyWhileUsed(db: Database, from: string, to: string): Promise<void> {
  await copyBlocks(from, to)
  let before = Infinity
  for (;;) {
    const blocks = await db.writtenBlocks(true)
    await copyBlocks(from, to, blocks)
    if (blocks.length <= fewBlocks || blocks.length >= before) return
    before = blocks.length
  }
}

/** Where the file system lets two files share their blocks, nothing is copied at all. */
async function sharedCopy(from: string, to: string): Promise<boolean> {
  return copyFile(from, to, constants.COPYFILE_FICLONE_FORCE).then(
    () => true,
    () => false,
  )
}

/**
 * Copies a file, or some blocks of it, so that nobody's fsync waits for it: a file system with a journal writes all new
 * data of others with it, so what is copied goes to the disk piece by piece.
 */
async function copyBlocks(from: string, to: string, blocks: Iterable<number> = allNumbers()): Promise<void> {
  await using source = await open(from, 'r')
  await using target = await open(to, constants.O_WRONLY | constants.O_CREAT, 0o600)
  const piece = Buffer.allocUnsafe(blockSize)
  for (const block of blocks) {
    const { bytesRead } = await source.read(piece, 0, blockSize, block * blockSize)
    if (bytesRead === 0) return
    await target.write(piece, 0, bytesRead, block * blockSize)
    await target.datasync()
  }
}

function* allNumbers(): Generator<number> {
  for (let number = 0; ; number++) yield number
}

async function checkpointAfter(db: Database, pages: number): Promise<void> {
  await db.all(trusted(`PRAGMA wal_autocheckpoint = ${pages}`))
}

/** @param seen is given the bytes as they go by */
async function* file(
  path: string,
  name: string,
  moment: Date,
  seen: (part: Uint8Array) => void = () => undefined,
): AsyncGenerator<Uint8Array> {
  const { size } = await stat(path)
  yield tarHeader(name, size, moment)
  if (size > 0) {
    const parts = createReadStream(path, { end: size - 1, highWaterMark: 1024 * 1024 })
    for await (const part of parts as AsyncIterable<Uint8Array>) {
      seen(part)
      yield part
    }
  }
  yield tarPadding(size)
}

/**
 * Files up to a row; nobody removes any meanwhile. One that is missing already is told, and left out; one that is no
 * longer what its name says is told.
 */
async function* blobFiles(
  { db, data, log }: BackupSite,
  last: number,
  moment: Date,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, number> {
  let [after, files] = [0, 0]
  while (after < last) {
    const rows = await blobsAfter(db, after, blobsAtOnce)
    if (rows.length === 0) break
    after = rows.at(-1)?.id ?? last
    const names = rows
      .filter(({ id }) => id <= last)
      .map(({ sha256 }) => join('blobs', sha256.slice(0, 2), sha256))
    for (let at = 0; at < names.length; at += readAtOnce) {
      signal.throwIfAborted()
      const some = names.slice(at, at + readAtOnce)
      const read = await Promise.all(some.map((name) => smallBytes(join(data, name))))
      for (const [index, name] of some.entries()) {
        const found = read[index] ?? null
        if (found === null) {
          log.error(`backup: the file ${basename(name)} of the data folder is missing`)
          continue
        }
        files += 1
        const digest = createHash('sha256')
        const seen = (part: Uint8Array): void => void digest.update(part)
        if (found === 'large') yield* file(join(data, name), name, moment, seen)
        else {
          seen(found)
          yield* wholeFile(found, name, moment)
        }
        if (digest.digest('hex') !== basename(name))
          log.error(
            `backup: the file ${basename(name)} of the data folder is altered; ctl db check tells more`,
          )
      }
    }
  }
  return files
}

function* wholeFile(bytes: Uint8Array, name: string, moment: Date): Generator<Uint8Array> {
  yield tarHeader(name, bytes.length, moment)
  yield bytes
  yield tarPadding(bytes.length)
}

/** The bytes of a small file; null: it cannot be read. What may wait for the disk is done by other threads. */
async function smallBytes(path: string): Promise<Uint8Array | 'large' | null> {
  try {
    const descriptor = await called<number>((done) => fs.open(path, 'r', done))
    try {
      const { size } = fs.fstatSync(descriptor)
      if (size > smallFile) return 'large'
      const bytes = Buffer.allocUnsafe(size)
      return bytes.subarray(0, await called<number>((done) => fs.read(descriptor, bytes, 0, size, 0, done)))
    } finally {
      fs.closeSync(descriptor)
    }
  } catch {
    return null
  }
}
