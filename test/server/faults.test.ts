import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { fullDisk } from '../faults/full.ts'
import { killings } from '../faults/kill.ts'
import { clockJumps, foreignProgram, spoiltBlobs, twoServers } from '../faults/others.ts'
import { powerLosses } from '../faults/power.ts'
import { powerLossesOfReports } from '../faults/power-reports.ts'
import { reportLine, shortRun, type FaultReport } from '../faults/report.ts'
import { workerKillings } from '../faults/worker.ts'

/** The same runs as `npm run test:faults`, shorter. */
const faults: Readonly<Record<string, () => Promise<FaultReport>>> = {
  'a server that is killed under load loses nothing that it acknowledged': () => killings(shortRun.kills),
  'worker, builds and server killed while jobs run come to one verdict each and leave nothing': () =>
    workerKillings(shortRun.workerKills),
  'power that goes off loses no acknowledged commit': () => powerLosses(shortRun.cuts),
  'power that goes off while reports are taken leaves every log that a row names': () =>
    powerLossesOfReports(shortRun.reportCuts),
  'a full disk is told in words, and the service goes on when there is space': fullDisk,
  'a second server is turned away from a folder that is in use': twoServers,
  'another program on the live file is kept from writing': foreignProgram,
  'a clock that jumps neither loses nor blocks a job': clockJumps,
  'a log that is missing or altered is never answered with other bytes': spoiltBlobs,
}

suite('faults', { concurrency: true }, () => {
  for (const [sentence, fault] of Object.entries(faults)) {
    test(sentence, async (t) => {
      const report = await fault()

      if (report.skipped !== undefined) return t.skip(report.skipped)
      t.diagnostic(reportLine(report))
      assert.deepEqual(report.losses, [])
    })
  }
})
