import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readFile, readdir, rmdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
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
    const join = `for file; do echo $$ > "$file" || exit 1; done; echo in; exec sleep 3600`
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

/** A v2 hierarchy and a controller in it that no group with processes may hand on, whoever has memory and pids. */
async function freeHierarchy(): Promise<{ root: string; controller: string } | null> {
  for (const root of ['/sys/fs/cgroup', '/sys/fs/cgroup/unified']) {
    const text = await readFile(join(root, 'cgroup.controllers'), 'utf8').catch(() => '')
    const controller = ['memory', 'io', 'hugetlb', 'misc', 'rdma'].find((name) =>
      text.split(/\s/).includes(name),
    )
    if (controller !== undefined) return { root, controller }
  }
  return null
}

const hierarchy = await freeHierarchy()
const noHierarchy = skip || (hierarchy === null ? 'no v2 hierarchy has a controller here' : false)

for (const [what, isAlone] of [
  ['alone in its group leaves it for a leaf, so that groups of builds get its controllers', true],
  ['that shares its group stays, and groups of builds are made at the root', false],
] as const) {
  test(`on v2 a worker ${what}`, { skip: noHierarchy }, async (t) => {
    const { root, controller } = hierarchy ?? { root: '', controller: '' }
    const own = `/rebuilderd-test-${process.pid}`
    const control = join(root, 'cgroup.subtree_control')
    const before = await readFile(control, 'utf8')
    await mkdir(join(root, own))
    await writeFile(control, `+${controller}`)
    const lodger = spawn('sleep', ['3600'], { stdio: 'ignore' })
    t.after(async () => {
      lodger.kill('SIGKILL')
      await once(lodger, 'exit')
      await writeFile(join(root, own, 'cgroup.subtree_control'), `-${controller}`).catch(() => undefined)
      for (const name of await readdir(join(root, own)))
        await rmdir(join(root, own, name)).catch(() => undefined)
      await rmdir(join(root, own))
      if (!before.split(/\s/).includes(controller)) await writeFile(control, `-${controller}`)
    })
    if (!isAlone) await writeFile(join(root, own, 'cgroup.procs'), String(lodger.pid))
    const module = new URL('../../src/worker/cgroup.ts', import.meta.url).href
    const worker = `const { handOn, makeUnified } = await import('${module}')
    const { readFileSync, rmdirSync, writeFileSync } = await import('node:fs')
    writeFileSync('${join(root, own)}/cgroup.procs', String(process.pid))
    const hierarchy = { root: '${root}', own: '${own}', version: 2 }
    await handOn(hierarchy, ['${controller}'])
    const job = await makeUnified(hierarchy, 'job', ['${controller}'])
    const has = readFileSync(job + '/cgroup.controllers', 'utf8').trim().split(' ').includes('${controller}')
    const place = /^0::(.*)$/m.exec(readFileSync('/proc/self/cgroup', 'utf8'))[1]
    if (job !== null) rmdirSync(job)
    console.log(JSON.stringify({ job, has, place }))`

    const { stdout } = await run(process.execPath, ['--input-type=module', '-e', worker])

    const told = JSON.parse(stdout) as { job: string; has: boolean; place: string }
    assert.ok(told.has)
    if (isAlone) assert.match(told.place, new RegExp(`^${own}/rebuilderd-\\d+-\\d+-\\d+-00000000$`))
    else assert.equal(told.place, own)
    assert.equal(told.job, isAlone ? join(root, own, 'job') : join(root, 'job'))
  })
}
