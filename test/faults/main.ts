/** `npm run test:faults [-- --short]`: breaks a server and a worker in every way we know, prints the counts, and ends with 1 where anything was lost. */
import { withScript } from '../help/script.ts'
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
