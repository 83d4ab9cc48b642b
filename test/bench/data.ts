import type { PackageReport, ReportedArtifact } from '../../src/wire/packages.ts'

/** Numbers from 0 to 1, the same ones for the same seed (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

const syllables = ['lib', 'ga', 'to', 'mi', 'rus', 'py', 'qt', 'x', 'ne', 'dev', 'core', 'zed', 'lo', 'va']

/** A package name as distributions have them; the number keeps it unique. */
function nameOf(random: () => number, number: number): string {
  const parts = Array.from({ length: 2 + Math.floor(random() * 3) }, () => {
    return syllables[Math.floor(random() * syllables.length)] ?? ''
  })
  return `${parts.join('')}${number}`
}

function hexOf(random: () => number): string {
  return Array.from({ length: 8 }, () =>
    Math.floor(random() * 2 ** 32)
      .toString(16)
      .padStart(8, '0'),
  ).join('')
}

/** How a report is made; a seed always gives the same one. */
type ReportShape = { seed: number; sources: number; binaries: number; release: string }

/** The shape of Debian trixie/main/amd64. */
export const trixie: ReportShape = { seed: 1, sources: 17_897, binaries: 35_135, release: 'trixie' }

/** A package report of a given size: every source has one binary, what is left goes to some of them, as it does in Debian. */
export function reportOf({ seed, sources, binaries, release }: ReportShape): PackageReport {
  const random = seeded(seed)
  const counts = Array.from({ length: sources }, () => 1)
  for (let left = binaries - sources; left > 0; left--) {
    const at = Math.floor(random() ** 2 * sources) // a few sources have many
    counts[at] = (counts[at] ?? 0) + 1
  }
  const packages = counts.map((count, number) => packageOf(random, number, count, release))
  return { distribution: 'debian', release, architecture: 'amd64', index: 'signed', packages }
}

function packageOf(random: () => number, number: number, count: number, release: string) {
  const name = nameOf(random, number)
  const version = `${Math.floor(random() * 12)}.${Math.floor(random() * 40)}-${1 + Math.floor(random() * 9)}`
  const folder = `https://mirror.example/debian/pool/main/${name.slice(0, 1)}/${name}`
  const artifacts = Array.from({ length: count }, (_, index): ReportedArtifact => {
    const binary = index === 0 ? name : `${name}-part${index}`
    const architecture = random() < 0.35 ? 'all' : 'amd64'
    const url = `${folder}/${binary}_${version}_${architecture}.deb`
    const size = Math.floor(random() * 2_000_000)
    return { name: binary, version, component: 'main', architecture, url, sha256: hexOf(random), size }
  })
  const url = `https://buildinfos.example/${release}/${name}_${version}_amd64.buildinfo`
  return {
    name,
    version,
    url,
    maintainer: `Maintainer ${number % 900} <m${number % 900}@example.org>`,
    artifacts,
  }
}

/** The same report with one package in a new version. */
export function withOneChanged(report: PackageReport): PackageReport {
  const [head, ...rest] = report.packages
  if (head === undefined) return report
  const raised = head.artifacts.map((artifact) => ({
    ...artifact,
    version: '99-1',
    url: `${artifact.url}.new`,
  }))
  return { ...report, packages: [{ ...head, version: '99-1', artifacts: raised }, ...rest] }
}

/** Lines as a compiler writes them, about `size` bytes, no two alike. */
export function logOf(random: () => number, size: number): Uint8Array {
  let text = ''
  while (text.length < size) {
    const file = `src/${nameOf(random, Math.floor(random() * 500))}.c`
    text += `gcc -O2 -g -fstack-protector-strong -c ${file} -o ${hexOf(random).slice(0, 12)}.o\n`
  }
  return new TextEncoder().encode(text)
}

/**
 * Makes logs of about `size` bytes, no two alike, at little cost: each is a piece of one long text behind a line of its
 * own, so that the one who asks keeps its processor for asking.
 */
export function logsOf(random: () => number, size: number): () => Uint8Array {
  const text = logOf(random, 16 * size)
  let made = 0
  return () => {
    const start = Math.floor(random() * 15 * size)
    const first = new TextEncoder().encode(`build ${made++} ${Math.floor(random() * 2 ** 32)}\n`)
    return Buffer.concat([first, text.subarray(start, start + size - first.length)])
  }
}
