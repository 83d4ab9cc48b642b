import { sentenceOf } from '../../errors.ts'
import { stanzaOf, stanzasIn, type Stanza } from '../../sync/deb822.ts'
import { fileIn, namesIn } from './inside.ts'
import { inventoryOf, isWord, type Installed, type Inventory } from './installed.ts'

/**
 * Packages that dpkg has installed below a root: `var/lib/dpkg/status` (man7.org/linux/man-pages/man1/dpkg.1.html),
 * and the files of `status.d`, which images without dpkg have instead. Null where neither is there.
 */
export async function dpkgPackages(root: string, distribution: string): Promise<Inventory | null> {
  const status = await fileIn(root, 'var/lib/dpkg/status')
  const names = (await namesIn(root, 'var/lib/dpkg/status.d')) ?? []
  if (status === null && names.length === 0) return null
  const packages: Installed[] = []
  const problems: string[] = []
  const read = (content: Buffer, path: string, isListed: boolean): void => {
    const found = statusPackages(content, path, { distribution, isListed })
    for (const one of found.packages) packages.push(one) // a million of them are too many for one call
    for (const one of found.problems) problems.push(one)
  }
  if (status !== null) read(status, 'var/lib/dpkg/status', false)
  for (const name of names.filter((each) => !each.endsWith('.md5sums'))) {
    const content = await fileIn(root, `var/lib/dpkg/status.d/${name}`)
    if (content !== null) read(content, `var/lib/dpkg/status.d/${name}`, true)
  }
  return inventoryOf(packages, problems)
}

type How = { distribution: string; isListed: boolean }

/** Packages of a file of dpkg, and what cannot be read in it: a damaged paragraph costs one package, not all. */
function statusPackages(
  content: Uint8Array,
  what: string,
  how: How,
): { packages: Installed[]; problems: string[] } {
  const packages: Installed[] = []
  const problems: string[] = []
  for (const { line, read } of paragraphsOf(content)) {
    try {
      const one = packageOf(read(), how)
      if (one !== null) packages.push(one)
    } catch (error) {
      problems.push(`${what}: the package at line ${line} cannot be read: ${sentenceOf(error).slice(0, 200)}`)
    }
  }
  return { packages, problems }
}

const wanted = ['Package', 'Version', 'Architecture', 'Status', 'Installed-Size'] as const

type Paragraph = { line: number; read: () => Stanza }

/** All of a file in one go, which is fastest; where that fails its paragraphs by themselves. */
function paragraphsOf(content: Uint8Array): Paragraph[] {
  try {
    const all = [...stanzasIn(content, { what: 'it', wanted })]
    return all.map((stanza) => ({ line: stanza.line, read: () => stanza }))
  } catch {
    return paragraphsApart(content)
  }
}

function paragraphsApart(content: Uint8Array): Paragraph[] {
  const paragraphs: Paragraph[] = []
  let line = 1
  for (const text of Buffer.from(content).toString('latin1').split('\n\n')) {
    if (text.trim() !== '')
      paragraphs.push({ line, read: () => stanzaOf(Buffer.from(text, 'latin1'), 'it', wanted) })
    line += text.split('\n').length + 1
  }
  return paragraphs
}

/** States of packages whose files are on the disk (man7.org/linux/man-pages/man1/dpkg.1.html, "Package states"). */
const present = /^\S+\s+\S+\s+(?:installed|unpacked|half-configured|triggers-awaited|triggers-pending)$/

/** Null for what was removed and only left its configuration. Files of status.d need not tell a status. */
function packageOf({ fields }: Stanza, { isListed, distribution }: How): Installed | null {
  const { Package: name, Version: version, Architecture: architecture, Status: status } = fields
  const isInstalled = status === undefined ? isListed : present.test(status)
  if (status !== undefined && !isInstalled) return null
  if (!isInstalled) throw new Error('it has no Status')
  if (!isWord(name) || !isWord(version) || !isWord(architecture)) {
    throw new Error('Package, Version or Architecture is missing or malformed')
  }
  const kilobytes = fields['Installed-Size'] ?? ''
  const size = /^\d{1,12}$/.test(kilobytes) ? Number(kilobytes) * 1024 : null
  return { distribution, name, version, architecture, size, sha256: null }
}
