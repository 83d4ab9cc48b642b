import assert from 'node:assert/strict'
import { readdir } from 'node:fs/promises'
import { describe, test } from 'node:test'
import { openGathering, type Gathering } from '../../src/sync/gathering.ts'
import type { ReportedArtifact } from '../../src/wire/packages.ts'
import { aFolder } from '../help/archives.ts'

/** So many that they are sorted in several pieces where they may not all wait in memory: a piece is four megabytes. */
const many = 30_000

function anArtifact(name: string, more: Partial<ReportedArtifact> = {}): ReportedArtifact {
  const url = `https://mirror.example/pool/${name}`
  const sha256 = 'ab'.repeat(32)
  return { name, version: '1', component: 'main', architecture: 'all', url, sha256, size: 1, ...more }
}

function add(found: Gathering, source: string, artifact: ReportedArtifact): void {
  found.add(source, artifact, () => ({ name: source, version: '1', url: `${source}.dsc`, maintainer: null }))
}

for (const place of ['memory', 'a file'])
  describe(`packages gathered in ${place}`, () => {
    const open = (folder: string): Gathering => openGathering(folder, place === 'memory' ? undefined : 0)

    test('come in the order of their keys, each with all of its artifacts as they were found, as often as asked', async (t) => {
      const found = open(await aFolder(t))
      t.after(found.close)
      const sources = many / 3
      const nameOf = (i: number): string => `ö-${(i * 7919) % sources}`
      for (let i = 0; i < many; i++) add(found, nameOf(i), anArtifact(`binary-${i}`))

      const packages = found.finish()
      const [first, again] = [[...packages], [...packages]]

      assert.equal(packages.length, sources)
      assert.deepEqual(
        first.map(({ name }) => name),
        Array.from({ length: sources }, (_, i) => `ö-${i}`).toSorted(),
      )
      const expected = [7, 7 + sources, 7 + 2 * sources].map((i) => anArtifact(`binary-${i}`))
      const seventh = { name: nameOf(7), version: '1', url: `${nameOf(7)}.dsc`, maintainer: null }
      assert.deepEqual(
        first.find(({ name }) => name === nameOf(7)),
        { ...seventh, artifacts: expected },
      )
      assert.deepEqual(again, first)
    })

    test('have the same artifact once', async (t) => {
      const found = open(await aFolder(t))
      t.after(found.close)
      for (const name of ['a', 'b', 'a']) add(found, 'source', anArtifact(name))

      const [only] = [...found.finish()]

      assert.deepEqual(only?.artifacts, [anArtifact('a'), anArtifact('b')])
    })

    test('are refused where the same artifact has two hashes', async (t) => {
      const found = open(await aFolder(t))
      t.after(found.close)
      add(found, 'source', anArtifact('a'))
      add(found, 'source', anArtifact('a', { sha256: 'cd'.repeat(32) }))

      assert.throws(() => found.finish(), /the indexes disagree on https:\/\/mirror.example\/pool\/a/)
    })

    test('leave nothing in the folder, and are gone when they are closed', async (t) => {
      const folder = await aFolder(t)
      const found = open(folder)
      for (let i = 0; i < many; i++) add(found, `source-${i}`, anArtifact(`binary-${i}`))

      const packages = found.finish()
      const names = await readdir(folder)
      found.close()

      assert.deepEqual(names, [])
      assert.throws(() => [...packages], /no longer there/)
    })
  })
