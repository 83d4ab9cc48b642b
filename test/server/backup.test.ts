import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { statSync } from 'node:fs'
import { mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { openClient, type Client } from '../../src/client.ts'
import { silentLog } from '../../src/log.ts'
import { checkData } from '../../src/server/maintenance.ts'
import { tarHeader } from '../../src/server/tar.ts'
import { getBackup } from '../../src/wire/backup.ts'
import { getBuildLog, listBuilds, submitBuild } from '../../src/wire/builds.ts'
import { listSourcePackages } from '../../src/wire/packages.ts'
import { runHere } from '../cmd/program.ts'
import {
  aPackage,
  aResult,
  importPackages,
  pop,
  startServer,
  temporaryFolder,
  type TestServer,
} from '../help/server.ts'

const noTar = spawnSync('tar', ['--version']).status === 0 ? false : 'tar (Debian package tar) is missing'

/** A server with many packages, of which some have been rebuilt. */
async function aBusyServer(t: TestContext, packages = 300): Promise<TestServer> {
  const server = await startServer(t)
  await importPackages(
    server.call,
    Array.from({ length: packages }, (_, n) => aPackage({ name: `package-${n}` })),
  )
  for (let n = 0; n < 5; n++) await rebuild(server.call)
  return server
}

async function rebuild(call: Client['call']): Promise<number | null> {
  const job = await pop(call)
  if (job === null) return null
  await call(submitBuild, { body: aResult(job, { build_log: Buffer.from(`log of ${job.job.name}\n`) }) })
  return job.job.id
}

async function restored(t: TestContext, archive: Uint8Array): Promise<string> {
  const folder = await temporaryFolder(t)
  const [file, data] = [join(folder, 'backup.tar'), join(folder, 'data')]
  await mkdir(data)
  await writeFile(file, archive)
  const { status, stderr } = spawnSync('tar', ['-xf', file, '-C', data])
  assert.equal(status, 0, stderr.toString())
  return data
}

test(
  'a backup made under load is that of one moment, and a server goes on from it',
  { skip: noTar },
  async (t) => {
    const { address, cookie, call } = await aBusyServer(t)
    const over = new AbortController()
    let acknowledged = 5
    const load = (async () => {
      for (let next = await rebuild(call); !over.signal.aborted && next !== null; next = await rebuild(call))
        acknowledged += 1
    })()
    const client = openClient({ base: address, cookie })
    const before = acknowledged
    const archive = Buffer.from(await client.call(getBackup))
    const after = acknowledged + 1
    over.abort()
    await load

    const data = await restored(t, archive)

    assert.deepEqual((await checkData(data)).problems, [])
    const again = await startServer(t, { data })
    const { total, records } = await again.call(listBuilds, { query: { limit: 1000 } })
    assert.ok(before <= total && total <= after, `${before} <= ${total} <= ${after}`)
    assert.equal((await again.call(listSourcePackages)).total, 300)
    for (const { id, name } of records) {
      const log = await again.call(getBuildLog, { params: { id } })
      assert.equal(Buffer.from(log).toString(), `log of ${name}\n`)
    }
  },
)

test(
  'what an import changes while the database is copied is copied once more',
  { skip: noTar },
  async (t) => {
    const { address, cookie, call } = await aBusyServer(t, 4000)
    const client = openClient({ base: address, cookie })
    const over = new AbortController()
    let last = ''
    const load = (async () => {
      for (let round = 1; !over.signal.aborted; round++) {
        const version = `${round}-1`
        const named = (n: number) => ({ ...aPackage({ name: `package-${n}` }), version })
        await importPackages(
          call,
          Array.from({ length: 4000 }, (_, n) => named(n)),
        )
        last = version
      }
    })()
    const archives = [await client.call(getBackup), await client.call(getBackup)]
    over.abort()
    await load

    assert.notEqual(last, '')
    for (const archive of archives) {
      const data = await restored(t, Buffer.from(archive))
      assert.deepEqual((await checkData(data)).problems, [])
    }
  },
)

test('nothing waits long for a backup', async (t) => {
  // One after the other, so that they are few where a backup keeps them waiting; how long is for the bench to measure.
  // Where disks are fast a backup is over soon: of more data there have to be more.
  let reads = 0
  for (let packages = 3000; packages <= 12_000 && reads < 12; packages *= 2) {
    reads = await readsDuringBackups(await aBusyServer(t, packages))
    t.diagnostic(`${reads} reads during two backups of ${packages} packages`)
  }

  assert.ok(reads >= 12, `${reads} reads were answered during two backups`)
})

/** How many reads were answered, one after the other, while two backups were made. */
async function readsDuringBackups({ address, cookie, call }: TestServer): Promise<number> {
  const client = openClient({ base: address, cookie })
  const over = new AbortController()
  let reads = 0
  const reading = (async () => {
    for (; !over.signal.aborted; reads++) await call(listBuilds, { query: { limit: 1 } })
  })()
  await client.call(getBackup)
  await client.call(getBackup)
  over.abort()
  const answered = reads
  await reading
  return answered
}

test(
  'small files and large ones are there as they were; those missing or altered are told, and only a missing one is left out',
  { skip: noTar },
  async (t) => {
    const errors: string[] = []
    const { address, cookie, call, data } = await startServer(t, {
      log: { ...silentLog, error: (text) => errors.push(text) },
    })
    await importPackages(
      call,
      Array.from({ length: 40 }, (_, n) => aPackage({ name: `package-${n}` })),
    )
    for (let n = 0; n < 40; n++) {
      const job = await pop(call)
      assert.ok(job !== null)
      await call(submitBuild, {
        body: aResult(job, { build_log: randomBytes(n % 10 === 0 ? 700_000 : 50 * n) }),
      })
    }
    const names = (await readdir(join(data, 'blobs'), { recursive: true })).filter((name) => name.length > 60)
    const [missing, ...kept] = names.toSorted()
    assert.deepEqual([names.length, missing === undefined], [40, false])
    await rm(join(data, 'blobs', missing ?? ''))
    const sizes = new Map(kept.map((name) => [name, statSync(join(data, 'blobs', name)).size]))
    const altered = [false, true].map((isLarge) =>
      kept.find((name) => (sizes.get(name) ?? 0) > 300_000 === isLarge),
    )
    for (const name of altered)
      await writeFile(join(data, 'blobs', name ?? ''), randomBytes(sizes.get(name ?? '') ?? 0))

    const made = await restored(t, Buffer.from(await openClient({ base: address, cookie }).call(getBackup)))

    const found = (await readdir(join(made, 'blobs'), { recursive: true })).filter((name) => name.length > 60)
    assert.deepEqual(found.toSorted(), kept)
    for (const name of kept)
      assert.ok((await readFile(join(made, 'blobs', name))).equals(await readFile(join(data, 'blobs', name))))
    const told = [[missing, 'missing'], ...altered.map((name) => [name, 'altered'])]
    assert.equal(errors.length, 3, errors.join('\n'))
    for (const [name = '', what = ''] of told)
      assert.ok(
        errors.some((text) => text.includes(`${basename(name)} of the data folder is ${what}`)),
        name,
      )
  },
)

test('nobody but administrators gets a backup', async (t) => {
  const { address, data } = await startServer(t)

  const reply = await fetch(`${address}/api/v1/backup`)

  assert.equal(reply.status, 403)
  assert.ok(!(await readdir(data)).includes('copying'))
})

test('a caller that goes away leaves nothing behind, and the next one is served', async (t) => {
  const { address, cookie, data } = await aBusyServer(t, 50)
  const stopping = new AbortController()
  const reply = await fetch(`${address}/api/v1/backup`, {
    headers: { 'x-auth-cookie': cookie },
    signal: stopping.signal,
  })
  await reply.body?.getReader().read()
  stopping.abort()

  const archive = await openClient({ base: address, cookie }).call(getBackup)

  assert.ok(archive.length > 10_240)
  assert.ok(!(await readdir(data)).includes('copying'))
})

test('ctl db backup writes the archive, ctl db check finds it in order', { skip: noTar }, async (t) => {
  const { address, cookieFile } = await aBusyServer(t, 20)
  const home = await temporaryFolder(t)
  const args = ['ctl', 'db', 'backup', 'all.tar', '-H', address, '--cookie-file', cookieFile]

  const made = await runHere(args, { home })
  const again = await runHere(args, { home })

  assert.equal(made.code, 0, made.stderr)
  assert.match(made.stdout, /all\.tar: .* [kM]B/)
  assert.deepEqual([again.code, /there already/.test(again.stderr)], [2, true])
  const data = await restored(t, await readFile(join(home, 'all.tar')))
  const checked = await runHere(['ctl', 'db', 'check', '--data', data], { home })
  assert.deepEqual([checked.code, /is in order/.test(checked.stdout)], [0, true], checked.stdout)
  assert.deepEqual(await readdir(home), ['all.tar'])
})

test('sizes over 8 GiB are written as GNU tar reads them', { skip: noTar }, async (t) => {
  const folder = await temporaryFolder(t)
  const file = join(folder, 'large.tar')
  await writeFile(file, tarHeader('large', 9 * 2 ** 30, new Date(0)))

  const { stdout } = spawnSync('tar', ['-tvf', file])

  assert.match(stdout.toString(), /9663676416 .* large/)
})
