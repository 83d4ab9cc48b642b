import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { openControlGroup } from '../../src/worker/cgroup.ts'
import { lacksPrograms } from '../help/debs.ts'

const run = promisify(execFile)
const limits = { memoryBytes: 256 * 1024 ** 2, processes: 100 }
const skip = process.getuid?.() === 0 ? lacksPrograms('unshare', 'sleep') : 'needs root'

test(
  'a worker in a container with its own process ids leaves the builds of others alone',
  { skip },
  async (t) => {
    const group = await openControlGroup(limits)
    t.after(() => group.remove())
    if (group.joinFiles.length === 0) return t.skip('this machine gives no control groups')
    const join = `for file; do echo $$ > "$file" || exit 1; done; echo in; exec sleep 60`
    const build = spawn('/bin/sh', ['-c', join, 'sh', ...group.joinFiles], {
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    t.after(() => build.kill('SIGKILL'))
    await once(build.stdout, 'data')

    const module = new URL('../../src/worker/cgroup.ts', import.meta.url).href
    const other = `const { openControlGroup } = await import('${module}')
    const group = await openControlGroup(${JSON.stringify(limits)}); await group.remove()`
    const apart = ['--pid', '--fork', '--mount', '--mount-proc', '--kill-child']
    await run('unshare', [...apart, process.execPath, '--input-type=module', '-e', other])

    assert.deepEqual([build.exitCode, build.signalCode], [null, null])
    await group.kill()
    await once(build, 'exit')
    assert.equal(build.signalCode, 'SIGKILL')
  },
)
