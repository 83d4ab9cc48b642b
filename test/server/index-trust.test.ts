import assert from 'node:assert/strict'
import { test } from 'node:test'
import { digestOf } from '../../src/report-digest.ts'
import { getBuild, listBuilds, submitBuild } from '../../src/wire/builds.ts'
import { exportDistribution, lookupPackages } from '../../src/wire/gates.ts'
import {
  getBinaryPackage,
  listBinaryPackages,
  listSourcePackages,
  submitPackages,
} from '../../src/wire/packages.ts'
import { listScopes } from '../../src/wire/sync.ts'
import { aPackage, aReport, aResult, anArtifact, importPackages, pop, startServer } from '../help/server.ts'

for (const index of ['signed', 'unsigned', null] as const) {
  test(`every answer about a package says that its index is ${index ?? 'of untold trust'}`, async (t) => {
    const { call } = await startServer(t)
    await importPackages(call, [aPackage()], { index })
    const job = await pop(call)
    assert.ok(job)
    await call(submitBuild, { body: aResult(job) })

    const binaries = await call(listBinaryPackages)
    const sources = await call(listSourcePackages)
    const ofArchitecture = await call(listSourcePackages, { query: { architecture: 'amd64' } })
    const [build] = (await call(listBuilds)).records
    const details = await call(getBuild, { params: { id: build?.id ?? 0 } })
    const wanted = [{ distribution: 'debian', name: 'hello', version: '1.0-1', architecture: 'amd64' }]
    const found = await call(lookupPackages, { body: { packages: wanted } })
    const exported = await call(exportDistribution, { params: { distribution: 'debian' } })

    const records = [
      binaries.records,
      sources.records,
      ofArchitecture.records,
      [details],
      found.records,
      exported,
    ]
    assert.deepEqual(
      records.flat().map((record) => record?.index),
      [index, index, index, index, index, index],
    )
  })
}

test('a source that is listed by a signed and by an unsigned report counts as unsigned', async (t) => {
  const { call } = await startServer(t)
  const other = aPackage({ artifacts: [anArtifact({ architecture: 'arm64' })] })
  await importPackages(call, [aPackage()], { index: 'signed' })
  await importPackages(call, [other], { index: 'unsigned', architecture: 'arm64' })

  const [source, ...others] = (await call(listSourcePackages)).records
  const [amd64] = (await call(listSourcePackages, { query: { architecture: 'amd64' } })).records

  assert.deepEqual([source?.index, others, amd64?.index], ['unsigned', [], 'signed'])
})

test('an index that came to be signed is told at once', async (t) => {
  const { call, address } = await startServer(t)
  const tag = async (): Promise<string | null> => {
    const reply = await fetch(`${address}/api/v1/packages/binary`)
    await reply.arrayBuffer()
    return reply.headers.get('etag')
  }
  await importPackages(call, [aPackage()], { index: 'unsigned' })
  const before = await tag()

  await importPackages(call, [aPackage()], { index: 'signed' })

  assert.equal((await call(listBinaryPackages)).records[0]?.index, 'signed')
  assert.notEqual(await tag(), before)
})

test("the distribution's own signature of a file is kept for as long as the file is the same", async (t) => {
  const { call } = await startServer(t)
  const listed = (sha256: string, signature?: string) =>
    importPackages(call, [aPackage({ artifacts: [anArtifact({ sha256, ...(signature && { signature }) })] })])
  const kept = async (): Promise<string | null> =>
    (await call(getBinaryPackage, { params: { id: 1 } })).signature

  await listed('a'.repeat(64), 'c2lnbmF0dXJl')
  const first = await kept()
  await listed('a'.repeat(64))
  const second = await kept()
  await listed('b'.repeat(64))

  assert.deepEqual([first, second, await kept()], ['c2lnbmF0dXJl', 'c2lnbmF0dXJl', null])
})

test('what is no base64 is refused as a signature', async (t) => {
  const { call } = await startServer(t)
  const artifacts = [anArtifact({ signature: '-----BEGIN PGP SIGNATURE-----' })]

  await assert.rejects(importPackages(call, [aPackage({ artifacts })]), /signature/)
})

test('the server tells what the last import of each scope changed, and the digest of its report', async (t) => {
  const { call } = await startServer(t)
  const names = ['one', 'two', 'three']
  await importPackages(
    call,
    names.map((name) => aPackage({ name })),
    { release: null },
  )
  const next = aReport(
    [...names.slice(1), 'four'].map((name) => aPackage({ name })),
    { release: null },
  )

  const before = await call(listScopes)
  await call(submitPackages, { body: next })
  const [after, ...others] = await call(listScopes)

  assert.deepEqual(
    before.map(({ release, listed, added, gone, queued }) => [release, listed, added, gone, queued]),
    [[null, 3, 3, 0, 3]],
  )
  assert.deepEqual([after?.listed, after?.added, after?.gone, after?.queued, others], [3, 1, 1, 1, []])
  assert.equal(after?.digest, digestOf(next))
  assert.deepEqual(await call(listScopes, { query: { distribution: 'fedora' } }), [])
})

test('the digest of a report depends on all that it says, and not on members that are null', () => {
  const report = aReport([aPackage()])
  const artifact = anArtifact()
  const others = [
    aReport([]),
    aReport([aPackage()], { index: 'signed' }),
    aReport([aPackage()], { release: null }),
    aReport([aPackage({ maintainer: 'A <a@b.example>' })]),
    aReport([aPackage({ artifacts: [{ ...artifact, size: 1 }] })]),
    aReport([aPackage({ artifacts: [{ ...artifact, sha256: 'a'.repeat(64) }] })]),
    aReport([aPackage({ artifacts: [{ ...artifact, signature: 'AAAA' }] })]),
    aReport([aPackage({ artifacts: [{ ...artifact, component: null }] })]),
  ]

  const digests = new Set([report, ...others].map(digestOf))

  assert.equal(digests.size, others.length + 1)
  const { signature, ...bare } = { ...artifact, signature: undefined }
  assert.equal(digestOf(aReport([aPackage({ artifacts: [bare] })])), digestOf(report), String(signature))
})
