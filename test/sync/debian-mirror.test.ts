import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { plainBytes } from '../../src/compression.ts'
import { chainOf } from '../../src/errors.ts'
import { NotAsTold, Unreachable } from '../../src/sync/download.ts'
import type { PackageReport } from '../../src/wire/packages.ts'
import { aFolder, through } from '../help/archives.ts'
import { sync } from '../help/sync.ts'

const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg'
const reference = join(
  import.meta.dirname,
  '../../../shared/fixtures/debian-trixie-main-amd64.report.json.zst',
)

/** The Debian mirror that this machine itself uses; null where it is no Debian, or has no network. */
async function ownMirror(): Promise<string | null> {
  if (!existsSync(keyring)) return null
  try {
    const sites = execFileSync('apt-get', ['indextargets', '--format', '$(SITE)'], {
      encoding: 'utf8',
      stdio: 'pipe',
    })
    const site = sites.split('\n').find((one) => /^https?:.*\/debian\/?$/.test(one))
    if (site === undefined) return null
    const { ok } = await fetch(`${site}/dists/trixie/InRelease`, {
      method: 'HEAD',
      signal: AbortSignal.timeout(20_000),
    })
    return ok ? site : null
  } catch {
    return null
  }
}

const mirror = await ownMirror()
const skip = mirror === null ? 'needs a Debian machine with a mirror that answers' : false

/** Sources with a line for their input and each artifact, without the address of the mirror. */
function contentByKey(report: PackageReport): Map<string, readonly string[]> {
  const entries = report.packages.map(({ name, version, url, artifacts }) => {
    const files = artifacts.map((one) =>
      [one.name, one.version, one.component, one.architecture, pathOf(one.url)].join(' '),
    )
    return [`${name} ${version}`, [url, ...files]] as const
  })
  return new Map(entries)
}

function pathOf(url: string): string {
  return url.replace(/^https?:\/\/[^/]*/, '').replace(/^\/debian/, '')
}

test("Debian's own archive is proven, read whole, and told as before", { skip }, async (t) => {
  const cache = await aFolder(t)
  const profile = { distro: 'debian', source: mirror, components: ['main'], releases: ['trixie'] }

  const once = () => sync({ ...profile, architectures: ['amd64', 'all'] }, { cache })
  let { reports, error } = await once()
  for (let tries = 1; tries < 3 && isOfTheMirror(error); tries++) ({ reports, error } = await once())

  assert.equal(error, null)
  assert.deepEqual(
    reports.map(({ architecture, index }) => [architecture, index]),
    [
      ['all', 'signed'],
      ['amd64', 'signed'],
    ],
  )
  const told = reports.map(({ packages }) => packages.flatMap(({ artifacts }) => artifacts).length)
  assert.deepEqual(told, await countsIn(cache))

  if (!existsSync(reference)) return t.diagnostic('not compared: ../shared/fixtures has no report of trixie')
  const [before] = JSON.parse(
    Buffer.from(await plainBytes(await readFile(reference), 1e9)).toString(),
  ) as PackageReport[]
  assertSame(before, reports[1], (text) => t.diagnostic(text))
})

/** Whether the mirror stumbled, or was in the middle of an update: that says nothing of us. */
function isOfTheMirror(error: Error | null): boolean {
  return (
    error !== null && chainOf(error).some((one) => one instanceof Unreachable || one instanceof NotAsTold)
  )
}

/** How many packages of `all` and `amd64` there are, by tools that share no code with ours. */
async function countsIn(cache: string): Promise<number[]> {
  const counts = { all: 0, amd64: 0 }
  for (const name of await readdir(cache)) {
    if (!name.startsWith('sha256-')) continue
    const plain = through('xz', ['-dc'], await readFile(join(cache, name)))
    if (plain === null || !plain.includes('\nFilename: ')) continue
    for (const architecture of ['all', 'amd64'] as const) {
      const found = through('grep', ['-c', `^Architecture: ${architecture}$`], plain)
      counts[architecture] += Number(found?.toString())
    }
  }
  return [counts.all, counts.amd64]
}

/** Whether a newer version has come: of the old one only packages stay that the new one has none of. */
function isReplaced(key: string, current: ReadonlyMap<string, unknown>): boolean {
  const name = key.slice(0, key.indexOf(' ') + 1)
  return [...current.keys()].some((other) => other !== key && other.startsWith(name))
}

/** The index may have moved on since; what it has in common must not differ. */
function assertSame(
  before: PackageReport | undefined,
  now: PackageReport | undefined,
  say: (text: string) => void,
): void {
  assert.ok(before !== undefined && now !== undefined)
  const [old, current] = [contentByKey(before), contentByKey(now)]
  const common = [...old.keys()].filter((key) => current.has(key))
  const differing = common.filter((key) => {
    const [was, is] = [old.get(key) ?? [], current.get(key) ?? []]
    const rest = isReplaced(key, current) ? was.filter((line) => is.includes(line)) : was
    return rest.join('\n') !== is.join('\n')
  })
  say(`${old.size} sources before, ${current.size} now, ${common.length} in common`)
  assert.ok(common.length > old.size / 2)
  assert.deepEqual(differing, [])
}
