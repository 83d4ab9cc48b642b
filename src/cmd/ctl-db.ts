import { existsSync } from 'node:fs'
import { open, rename, rm, type FileHandle } from 'node:fs/promises'
import { resolve } from 'node:path'
import { Complaint } from '../errors.ts'
import { getBackup } from '../wire/backup.ts'
import { command, flag, text, type Context } from './command.ts'
import { openAdminClient, serverOptions, type ServerOptions } from './credentials.ts'
import { counted } from './output.ts'
import { openProgressLine, shownBytes } from './progress.ts'
import { usualFolder } from './server-choice.ts'

const dataOption = text('Folder of a stopped server; default as `rebuilderd serve` has it', {
  placeholder: 'DIR',
})

const whatToDo =
  'Files that are missing or altered come back from a backup (`tar -xf BACKUP -C FOLDER blobs`); without one they are not handed out, and verdicts stay. With any other problem, restore the whole backup into an empty folder.'

const dbCheck = command(
  'ctl db check',
  'Look at everything that a stopped server has kept: rows, counters, and every log, diff and attestation',
  { data: dataOption, json: flag('Print one JSON object') },
  async (_, { data, json }, context) => {
    const { out, err, write, signal, environment } = context
    const folder = resolve(data ?? usualFolder(environment))
    const line = openProgressLine(context)
    const { checkData } = await import('../server/maintenance.ts') // other commands do without a server
    const found = await checkData(folder, signal, (files) => line.show(`${files} files read`)).finally(
      line.clear,
    )
    const { problems, blobs, blobBytes, unqueued, orphans } = found
    if (json) write(`${JSON.stringify(found, null, 2)}\n`)
    else {
      for (const problem of problems) out(problem)
      out(`${blobs} files with ${shownBytes(blobBytes)}, ${unqueued} builds that nobody will try by itself`)
      if (orphans.rows + orphans.files > 0) {
        out(
          `${orphans.rows} blobs that no row names, ${orphans.files} files without a row: the server removes them`,
        )
      }
      out(
        problems.length === 0
          ? `${folder} is in order`
          : `${counted(problems.length, 'problem')} in ${folder}`,
      )
    }
    if (problems.length > 0) err(whatToDo)
    return problems.length === 0 ? 0 : 1
  },
  {
    details: 'Changes nothing. Reads every file, so it takes as long as the disk needs for that.',
    exits: { 1: 'there are problems, or it could not be looked at' },
  },
)

const dbImport = command(
  'ctl db import <upstream-db>',
  "Take over the database of kpcyrd's rebuilderd, 0.26 to 0.28, into the folder of a stopped server",
  {
    data: dataOption,
    merge: flag('Add to a folder that has packages already'),
  },
  async ([file], { data, merge }, context) => {
    const { out, signal, environment } = context
    const folder = resolve(data ?? usualFolder(environment))
    const line = openProgressLine(context)
    const progress = (what: string, done: number, total: number): void =>
      line.show(`${what}: ${done} of ${total}`)
    const { takeOver } = await import('../server/takeover.ts')
    try {
      const taken = await takeOver({ file: resolve(file), data: folder, merge, signal, progress })
      line.clear()
      const { source_packages, binary_packages, rebuilds, queue, workers, damaged } = taken
      out(`${source_packages} source packages, ${binary_packages} binary packages, ${rebuilds} builds,`)
      out(`${queue} jobs and ${workers} workers taken over into ${folder}`)
      if (damaged > 0) out(`${damaged} logs, diffs or attestations could not be unpacked and were left out`)
    } finally {
      line.clear()
    }
  },
  {
    details: `Stop upstream's daemon first. Its database is only read: it is copied, and the copy is removed in the end, so that the disk of the data folder needs space for it twice. Addresses of builds, logs and packages stay as they are. After an interruption the same command goes on where it was; until it has come to its end no server starts in that folder. The signing key can be used as it is: \`rebuilderd serve --signing-key rebuilderd.sign.key\`.`,
  },
)

const dbBackup = command(
  'ctl db backup <file>',
  'Write everything that a running server keeps into a tar archive',
  { ...serverOptions, force: flag('Replace a file that is there') },
  async ([file], { force, ...options }, context) => {
    const path = resolve(file)
    const line = openProgressLine(context)
    try {
      const size = await writtenBackup(path, { force, ...options }, context, (bytes) =>
        line.show(shownBytes(bytes)),
      )
      line.clear()
      context.out(`${path}: ${shownBytes(size)}`)
      context.err(
        `Keys are not in it: keep copies of rebuilderd.sign.key and auth-cookie. To restore: tar -xf ${path} -C an empty data folder, before its server starts.`,
      )
    } finally {
      line.clear()
    }
  },
  {
    details:
      'The server goes on meanwhile. The archive is that of one moment; it is there whole, or not at all. `ctl db check` looks at what was restored from it.',
    examples: ['rebuilderd ctl db backup rebuilderd.tar'],
  },
)

type Requested = ServerOptions & { force: boolean }

/** Writes beside the file, and gives it its name when all is on disk. */
async function writtenBackup(
  path: string,
  { force, ...options }: Requested,
  context: Context,
  progress: (bytes: number) => void,
): Promise<number> {
  if (!force && existsSync(path)) {
    throw new Complaint(`${path} is there already`, {
      hint: 'name another file, or give --force',
      exitCode: 2,
    })
  }
  const client = await openAdminClient(options, context)
  const chunks = await client.chunks(getBackup)
  const aside = `${path}.${process.pid}.part`
  const target = await open(aside, 'wx', 0o600)
  try {
    const size = await written(target, chunks, progress)
    await target.sync()
    await rename(aside, path)
    return size
  } catch (error) {
    await rm(aside, { force: true })
    throw new Complaint(`cannot write the backup ${path}`, { cause: error })
  } finally {
    await target.close()
  }
}

/** Writes an archive that must have its end: two empty blocks. */
async function written(
  target: FileHandle,
  chunks: AsyncIterable<Uint8Array>,
  progress: (bytes: number) => void,
): Promise<number> {
  let size = 0
  let last: Uint8Array = new Uint8Array(0)
  for await (const chunk of chunks) {
    await target.writeFile(chunk)
    size += chunk.length
    last = Buffer.concat([last, chunk]).subarray(-1024)
    progress(size)
  }
  if (last.length < 1024 || last.some((byte) => byte !== 0)) {
    throw new Complaint('the server broke off before the end of the backup', { hint: 'its log tells why' })
  }
  return size
}

/** What is done to a server's data as a whole. */
export const dbCommands = [dbCheck, dbBackup, dbImport] as const
