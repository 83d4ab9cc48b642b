import { resolve } from 'node:path'
import { checkData } from '../server/maintenance.ts'
import { takeOver } from '../server/takeover.ts'
import { command, flag, text } from './command.ts'
import { openProgressLine, shownBytes } from './progress.ts'
import { usualFolder } from './serve.ts'

const dataOption = text('Folder of a stopped server; default as `rebuilderd serve` has it', {
  placeholder: 'DIR',
})

export const dbCheck = command(
  'ctl db check',
  'Look at everything that a stopped server has kept: rows, counters, and every log, diff and attestation',
  { data: dataOption, json: flag('Print one JSON object') },
  async (_, { data, json }, { out, write, signal, environment }) => {
    const folder = resolve(data ?? usualFolder(environment))
    const found = await checkData(folder, signal)
    const { problems, blobs, blobBytes, unqueued } = found
    if (json) write(`${JSON.stringify(found, null, 2)}\n`)
    else {
      for (const problem of problems) out(problem)
      out(`${blobs} files with ${shownBytes(blobBytes)}, ${unqueued} builds that nobody will try by itself`)
      out(problems.length === 0 ? `${folder} is in order` : `${problems.length} problems in ${folder}`)
    }
    return problems.length === 0 ? 0 : 1
  },
  {
    details: 'Changes nothing. Reads every file, so it takes as long as the disk needs for that.',
    exits: { 1: 'there are problems, or it could not be looked at' },
  },
)

export const dbImport = command(
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

/** What is done to a server's data as a whole. */
export const dbCommands = [dbCheck, dbImport] as const
