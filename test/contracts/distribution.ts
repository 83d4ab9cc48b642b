import assert from 'node:assert/strict'
import { describe, test, type TestContext } from 'node:test'
import { complaintOf } from '../../src/errors.ts'
import { distributions } from '../../src/sync/index.ts'
import { PackageReport } from '../../src/wire/packages.ts'
import { checked } from '../../src/wire/schema.ts'
import { sync } from '../help/sync.ts'

/** A distribution's archive, made by the test: a profile for it that holds at least one package, and its address. */
type ArchiveUnderTest = { profile: Record<string, unknown> & { source: string }; root: string }

/** What every distribution must hold to, whatever its formats are. */
export function distributionContract(
  name: string,
  makeArchive: (t: TestContext) => Promise<ArchiveUnderTest>,
): void {
  describe(`the distribution ${name}`, () => {
    test('is listed with one word and a sentence', () => {
      const found = distributions.filter((one) => one.name === name)

      assert.equal(found.length, 1)
      assert.match(name, /^[a-z]+$/)
      assert.ok((found[0]?.doc.length ?? 0) > 10)
    })

    test('yields reports that a server takes', async (t) => {
      const { profile, root } = await makeArchive(t)

      const { reports, error } = await sync(profile)

      assert.equal(error, null)
      assert.ok(reports.length > 0)
      for (const report of reports) {
        checked(PackageReport, JSON.parse(JSON.stringify(report)), 'the report')
        assert.equal(report.distribution, name)
        assert.ok(report.packages.length > 0)
        for (const { url, artifacts } of report.packages) {
          assert.ok(url.length > 0)
          assert.ok(artifacts.length > 0)
          for (const artifact of artifacts) assert.ok(artifact.url.startsWith(root), artifact.url)
        }
      }
    })

    test('names each file once', async (t) => {
      const { profile } = await makeArchive(t)
      const twice = Object.fromEntries(
        Object.entries(profile).map(([key, value]) => {
          const isList = ['components', 'architectures'].includes(key) && Array.isArray(value)
          return [key, isList ? [...(value as unknown[]), ...(value as unknown[])] : value] // checked in this line
        }),
      )

      const { reports, error } = await sync(twice)

      assert.equal(error, null)
      const scopes = reports.map(({ release, architecture }) => `${release} ${architecture}`)
      assert.equal(new Set(scopes).size, scopes.length)
      for (const report of reports) {
        const urls = report.packages.flatMap(({ artifacts }) => artifacts.map(({ url }) => url))
        assert.equal(new Set(urls).size, urls.length)
      }
    })

    test('says the same of the same archive', async (t) => {
      const { profile } = await makeArchive(t)

      assert.deepEqual((await sync(profile)).reports, (await sync(profile)).reports)
    })

    test('needs trust for what nobody signed', async (t) => {
      const { profile } = await makeArchive(t)

      const trusted = await sync(profile)
      const refused = await sync({ ...profile, allow_unsigned: false })

      assert.ok(trusted.reports.every(({ index }) => index === 'unsigned'))
      assert.deepEqual(refused.reports, [])
      assert.match(refused.error?.message ?? '', /not synced, and left as it was/)
    })

    for (const key of ['architectures', 'components', 'releases'] as const) {
      test(`refuses a profile with an empty list of ${key}, where it uses them`, async (t) => {
        const { profile } = await makeArchive(t)
        if (profile[key] === undefined) return

        const { reports, error } = await sync({ ...profile, [key]: [] })

        assert.deepEqual(reports, [])
        assert.equal(complaintOf(error)?.exitCode, 2)
      })
    }

    test('changes nothing where its archive cannot be read', async (t) => {
      const { profile } = await makeArchive(t)
      for (const gone of ['http://127.0.0.1:1', '/nowhere']) {
        const source = profile.source.includes('$') ? `${gone}/$repo/$arch` : gone

        const { reports, error } = await sync({ ...profile, source })

        assert.deepEqual(reports, [])
        assert.match(
          complaintOf(error)?.message ?? '',
          new RegExp(`not synced, and left as it was: ${name} `),
        )
      }
    })

    test('wants nothing of what a profile excludes', async (t) => {
      const { profile } = await makeArchive(t)
      if (name === 'tails') return

      const { reports } = await sync({ ...profile, excludes: ['*'] })

      assert.ok(reports.length > 0)
      assert.ok(reports.every(({ packages }) => packages.length === 0))
    })

    test('ends when it is told to', async (t) => {
      const { profile } = await makeArchive(t)

      const { reports, error } = await sync(profile, { signal: AbortSignal.abort(new Error('enough')) })

      assert.deepEqual(reports, [])
      assert.match(String(error), /enough|abort/i)
    })
  })
}
