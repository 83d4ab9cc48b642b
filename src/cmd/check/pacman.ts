import { fileIn, namesIn } from './inside.ts'
import { inventoryOf, isWord, type Installed, type Inventory } from './installed.ts'

/** Packages that pacman has installed below a root: one folder each in `var/lib/pacman/local`. Null where it is not there. */
export async function pacmanPackages(root: string, distribution: string): Promise<Inventory | null> {
  const names = await namesIn(root, 'var/lib/pacman/local')
  if (names === null) return null
  const packages: Installed[] = []
  const problems: string[] = []
  for (const name of names.filter((each) => each !== 'ALPM_DB_VERSION')) {
    const content = await fileIn(root, `var/lib/pacman/local/${name}/desc`)
    const one = content === null ? null : packageOf(content.toString('utf8'), distribution)
    if (one !== null) packages.push(one)
    else problems.push(`var/lib/pacman/local/${name}: the package has no desc with a name, version and arch`)
  }
  return inventoryOf(packages, problems)
}

function packageOf(text: string, distribution: string): Installed | null {
  const field = (name: string): string | undefined => new RegExp(`^%${name}%\n([^\n]*)$`, 'm').exec(text)?.[1]
  const [name, version, architecture] = [field('NAME'), field('VERSION'), field('ARCH')]
  if (!isWord(name) || !isWord(version) || !isWord(architecture)) return null
  const bytes = field('SIZE') ?? ''
  const size = /^\d{1,15}$/.test(bytes) ? Number(bytes) : null
  return { distribution, name, version, architecture, size, sha256: null }
}
