import { drive, quantile, totalOf } from './drive.ts'
import type { Add, Target } from './measure.ts'

const connections = 64

/** The pages of a server with packages of debian trixie, each with its name. */
export async function pagesOf(address: string): Promise<[string, string][]> {
  const query = 'limit=1&distribution=debian&release=trixie&sort=name'
  const reply = await fetch(`${address}/api/v1/packages/source?${query}`)
  const { records } = (await reply.json()) as { records: { name: string }[] } // the contract's own shape
  const name = encodeURIComponent(records[0]?.name ?? 'none')
  return [
    ['home page', '/'],
    ['page of a distribution', '/debian'],
    ['page of a release', '/debian/trixie'],
    ['page of a release, filtered', '/debian/trixie?status=UNKWN&component=main&sort=newest'],
    ['page of a source package', `/debian/trixie/${name}`],
    ['queue page', '/queue'],
    ['workers page', '/workers'],
    ['reasons page', '/reasons'],
    ['search page', '/search?q=lib'],
    ['about page', '/about'],
  ]
}

/** What Chromium sends over plain HTTP. */
const browser = { 'accept-encoding': 'gzip, deflate' }

/** Each page at 64 connections, asked for as browsers do: the time to its first byte, and to its last. */
export async function measurePages(
  { address }: Target,
  group: string,
  seconds: number,
  add: Add,
): Promise<void> {
  for (const [what, path] of await pagesOf(address)) {
    const load = {
      kind: 'reads',
      base: address,
      paths: [path],
      headers: browser,
      connections,
      isConditional: false,
    } as const
    await drive({ ...load, seconds: 1, most: 3 * connections }) // once warm
    const { count, seconds: took, bytes, errors, times } = await drive({ ...load, seconds, most: 50_000 })
    const aim = path === '/' ? { least: 1500 } : {}
    const note = `${Math.round(bytes / Math.max(1, count))} bytes, ${totalOf(errors)} errors`
    add({ group, what, value: count / took, unit: 'req/s', ...aim, note })
    const p99 = (name: string): number => quantile(times[name] ?? [], 0.99)
    add({ group, what, value: p99('read, first byte'), unit: 'ms p99, first', most: 50 })
    add({ group, what, value: p99('read'), unit: 'ms p99, last' })
  }
}
