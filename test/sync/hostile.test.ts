import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { decompressed } from '../../src/compression.ts'
import { Complaint } from '../../src/errors.ts'
import { binaryFields, binaryOf } from '../../src/sync/debian-packages.ts'
import { stanzas } from '../../src/sync/deb822.ts'
import { pacmanPackages } from '../../src/sync/pacman-db.ts'
import { rpmPackages } from '../../src/sync/rpm-md.ts'
import {
  aBinary,
  aPacmanPackage,
  inPieces,
  pacmanDb,
  primaryXml,
  stanzasText,
  through,
} from '../help/archives.ts'
import { mutated, numbers } from '../help/mutations.ts'

type Reader = (chunks: AsyncIterable<Uint8Array>) => AsyncIterable<unknown>

/** The three kinds of index, as their distributions read them. */
const readers: Readonly<Record<string, Reader>> = {
  Packages: async function* packages(chunks) {
    for await (const stanza of stanzas(chunks, { what: 'index', wanted: binaryFields }))
      yield binaryOf(stanza, 'index')
  },
  'core.db': (chunks) => pacmanPackages(chunks, 'index'),
  'primary.xml': (chunks) => rpmPackages(chunks, 'index'),
}

const names = Array.from({ length: 40 }, (_, i) => `package${i}`)
const indexes: Readonly<Record<string, Buffer>> = {
  Packages: Buffer.from(stanzasText(names.map((name) => aBinary({ Package: name })))),
  'core.db': await pacmanDb(Object.fromEntries(names.map((name) => [name, aPacmanPackage({ NAME: name })]))),
  'primary.xml': Buffer.from(primaryXml(names.map((name) => ({ name })))),
}

/** How many packages come out; every error that is not a complaint is a fault of ours. */
async function count(reader: Reader, stored: Uint8Array, size = 65_536): Promise<number | Complaint> {
  let found = 0
  try {
    const plain = decompressed(inPieces(stored, size), { limit: 50_000_000, what: 'index' })
    for await (const one of reader(plain)) found += Number(one !== null)
    return found
  } catch (error) {
    if (error instanceof Complaint) return error
    throw error
  }
}

for (const [kind, reader] of Object.entries(readers)) {
  const plain = indexes[kind] ?? Buffer.alloc(0)

  describe(`a hostile ${kind}`, () => {
    test('that is none at all still is whole to begin with', async () => {
      assert.equal(await count(reader, plain), names.length)
    })

    for (const [coding, stored] of [
      ['plain', plain],
      ['gzip', gzipSync(plain)],
      ['zstd', zstdCompressSync(plain)],
      ['xz', through('xz', ['-c'], plain)],
      ['bzip2', through('bzip2', ['-c'], plain)],
    ] as const) {
      test(
        `mutated as ${coding} is refused or read, and never harms`,
        { skip: stored === null ? 'needs the program' : false },
        async () => {
          const next = numbers(20_261_122)
          const outcomes = { read: 0, refused: 0 }

          for (let i = 0; i < 100; i++) {
            const outcome = await count(reader, mutated(stored ?? plain, next), 1 + next(5000))
            outcomes[typeof outcome === 'number' ? 'read' : 'refused']++
            if (typeof outcome === 'number') assert.ok(outcome <= names.length + 3, `${outcome} packages`)
          }

          assert.ok(outcomes.refused > 0, JSON.stringify(outcomes))
        },
      )
    }

    for (const [name, byte] of [
      ['zeros', '\0'],
      ['one letter', 'a'],
      ['blanks', ' '],
      ['line ends', '\n'],
      ['brackets', '<'],
    ] as const) {
      test(`of 10 GB of ${name} is given up within bounds`, async () => {
        const piece = Buffer.alloc(1 << 20, byte)
        let given = 0
        async function* endless(): AsyncGenerator<Uint8Array> {
          for (; given < 10_240; given++) yield piece
        }
        const before = process.memoryUsage().rss

        await assert.rejects(async () => {
          const limited = decompressed(endless(), { limit: 60_000_000, what: 'index' })
          for await (const one of reader(limited)) assert.ok(one)
        }, Complaint)

        assert.ok(given <= 60, `${given} MiB were read`)
        assert.ok(process.memoryUsage().rss - before < 300 * 1024 * 1024)
      })
    }
  })
}
