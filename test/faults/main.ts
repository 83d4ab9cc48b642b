/** `npm run test:faults [-- --short]`: breaks a server and a worker in every way we know, prints the counts, and ends with 1 where anything was lost. */
import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { fullDisk } from './full.ts'
import { killings } from './kill.ts'
import { clockJumps, foreignProgram, spoiltBlobs, twoServers } from './others.ts'
import { powerLosses } from './power.ts'
import { longRun, reportLine, shortRun } from './report.ts'
import { workerKillings } from './worker.ts'

const isShort = process.argv.includes('--short')
const { kills, cuts, workerKills } = isShort ? shortRun : longRun
const faults = [
  () => twoServers(),
  () => foreignProgram(),
  () => spoiltBlobs(),
  () => clockJumps(),
  () => fullDisk(),
  () => powerLosses(cuts),
  () => (isShort ? killings(kills) : withScript((script) => killings(kills, script))),
  () => (isShort ? workerKillings(workerKills) : withScript((script) => workerKillings(workerKills, script))),
]

/** The program as it is shipped, made for this run: it starts in a third of the time that the source tree takes. */
async function withScript<T>(work: (script: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'rebuilderd-script-'))
  try {
    const build = fileURLToPath(new URL('../../build.mjs', import.meta.url))
    await promisify(execFile)(process.execPath, [build, '--script', '--out', folder])
    return await work(join(folder, 'rebuilderd.mjs'))
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

let losses = 0
const begin = performance.now()
for (const fault of faults) {
  const report = await fault()
  losses += report.losses.length
  console.log(reportLine(report))
}
const seconds = Math.round((performance.now() - begin) / 1000)
console.log(`${losses === 0 ? 'nothing was lost' : `${losses} losses`} in ${seconds} s`)
process.exitCode = losses === 0 ? 0 : 1
