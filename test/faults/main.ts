/** `npm run test:faults [-- --short]`: breaks a server in every way we know, prints the counts, and ends with 1 where anything was lost. */
import { fullDisk } from './full.ts'
import { killings } from './kill.ts'
import { clockJumps, foreignProgram, spoiltBlobs, twoServers } from './others.ts'
import { powerLosses } from './power.ts'
import { longRun, reportLine, shortRun } from './report.ts'

const { kills, cuts } = process.argv.includes('--short') ? shortRun : longRun
const faults = [
  () => twoServers(),
  () => foreignProgram(),
  () => spoiltBlobs(),
  () => clockJumps(),
  () => fullDisk(),
  () => powerLosses(cuts),
  () => killings(kills),
]
let losses = 0
for (const fault of faults) {
  const report = await fault()
  losses += report.losses.length
  console.log(reportLine(report))
}
console.log(losses === 0 ? 'nothing was lost' : `${losses} losses`)
process.exitCode = losses === 0 ? 0 : 1
