/** `npm run test:faults [-- --short]`: breaks a server and a worker in every way we know, prints the counts, and ends with 1 where anything was lost. */
import { withScript } from '../help/script.ts'
import { fullDisk } from './full.ts'
import { killings } from './kill.ts'
import { clockJumps, foreignProgram, spoiltBlobs, twoServers } from './others.ts'
import { powerLosses } from './power.ts'
import { powerLossesOfReports } from './power-reports.ts'
import { longRun, reportLine, shortRun, type FaultReport } from './report.ts'
import { workerKillings } from './worker.ts'

const isShort = process.argv.includes('--short')
const { kills, cuts, reportCuts, workerKills } = isShort ? shortRun : longRun

/** Those of a line run one after the other, the lines at once: most of the time each of them waits for something. */
const lines = (script?: string): readonly (readonly (() => Promise<FaultReport>)[])[] => [
  [
    twoServers,
    foreignProgram,
    spoiltBlobs,
    clockJumps,
    fullDisk,
    () => powerLosses(cuts),
    () => powerLossesOfReports(reportCuts),
  ],
  [() => killings(kills, script)],
  [() => workerKillings(workerKills, script)],
]

let losses = 0
async function run(line: readonly (() => Promise<FaultReport>)[]): Promise<void> {
  for (const fault of line) {
    const report = await fault()
    losses += report.losses.length
    console.log(reportLine(report))
  }
}

const begin = performance.now()
const all = async (script?: string): Promise<void> => void (await Promise.all(lines(script).map(run)))
await (isShort ? all() : withScript(all))
const seconds = Math.round((performance.now() - begin) / 1000)
console.log(`${losses === 0 ? 'nothing was lost' : `${losses} losses`} in ${seconds} s`)
process.exitCode = losses === 0 ? 0 : 1
