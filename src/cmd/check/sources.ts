import { Complaint, during } from '../../errors.ts'
import { dpkgPackages } from './dpkg.ts'
import { givenText, isGivenFolder } from './given.ts'
import { fileIn } from './inside.ts'
import { inventoryOf, wholeInput, type Installed, type Inventory } from './installed.ts'
import { listedPackages } from './lines.ts'
import { pacmanPackages } from './pacman.ts'
import { packageOfFile } from './package-file.ts'
import { sbomPackages } from './sbom.ts'

/** Where the packages come from: one downloaded file, a bill of materials, a list, else the system below `root`. */
type Source = Named & {
  /** What `root` is called where it holds something that was unpacked. */
  called: string | undefined
  distro: string | undefined
  input: AsyncIterable<Uint8Array>
  signal: AbortSignal
}

/** What was given on the command line, as files and folders. */
type Named = {
  root: string | undefined
  file: string | undefined
  sbom: string | undefined
  list: string | undefined
}

/** @throws Complaint where two sources are given */
export function requireOneSource(given: Named & { image: string | undefined }): void {
  const { root, file, sbom, list, image } = given
  const sources = { file, sbom, list, image, ...(image === undefined ? {} : { root }) }
  const named = Object.entries(sources).filter(([, value]) => value !== undefined)
  if (named.length < 2) return
  const names = named.map(([name]) => `--${name}`).join(' and ')
  throw new Complaint(`${names} cannot be given together`, { exitCode: 2 })
}

/**
 * Reads what is to be checked.
 * @throws Complaint where there is nothing that we can read
 */
export async function readInventory(source: Source): Promise<Inventory> {
  const { root, file, sbom, list, distro, signal } = source
  if (distro !== undefined && !/^[\w.+-]+$/.test(distro))
    throw new Complaint('--distro takes the name of a distribution', { hint: '--distro debian', exitCode: 2 })
  if (root !== undefined && !(await isGivenFolder('--root', root)))
    throw new Complaint(`--root ${root}: it is no folder`, {
      hint: '--image takes an image as docker or podman save it; an archive of files is unpacked before',
      exitCode: 2,
    })
  if (file !== undefined) return inventoryOf([await packageOfFile(file, distro ?? null, signal)], [])
  if (sbom !== undefined)
    return ofDistribution(sbomPackages(await textOf('--sbom', sbom, source), nameOf(sbom)), distro)
  if (list !== undefined) {
    const what = nameOf(list)
    return listedPackages(
      await textOf('--list', list, source),
      distro ?? (await distributionOf(root ?? '/')),
      what,
    )
  }
  return systemPackages(root ?? '/', distro, source.called)
}

function nameOf(path: string): string {
  return path === '-' ? 'standard input' : path
}

async function textOf(option: string, path: string, { input }: Source): Promise<string> {
  if (path !== '-') return givenText(option, path)
  const bytes = await during('reading standard input', () => wholeInput(input, nameOf(path)))
  return bytes.toString('utf8')
}

function ofDistribution(inventory: Inventory, distro: string | undefined): Inventory {
  const wanted = inventory.packages.filter(
    (one: Installed) => distro === undefined || one.distribution === distro,
  )
  return { ...inventory, packages: wanted }
}

async function systemPackages(root: string, distro: string | undefined, called = root): Promise<Inventory> {
  const distribution = distro ?? (await distributionOf(root, called))
  const found = (await dpkgPackages(root, distribution)) ?? (await pacmanPackages(root, distribution))
  if (found !== null) return found
  throw new Complaint(`${called} has no packages of dpkg or pacman`, {
    hint: 'rpm -qa --qf "%{NAME} %{EPOCHNUM}:%{VERSION}-%{RELEASE} %{ARCH} %{SIZE}\\n" | rebuilderd ctl check --list -',
    exitCode: 2,
  })
}

/** Names that rebuilders have for what os-release(5) calls otherwise. */
const renamed: Readonly<Record<string, string>> = { arch: 'archlinux' }

/** The distribution of a system by its os-release (freedesktop.org/software/systemd/man/os-release.html). */
export async function distributionOf(root: string, called = root): Promise<string> {
  for (const path of ['etc/os-release', 'usr/lib/os-release']) {
    const text = (await fileIn(root, path))?.toString('utf8') ?? ''
    const id = /^ID=["']?([a-z0-9._-]+)["']?\s*$/m.exec(text)?.[1]
    if (id !== undefined) return renamed[id] ?? id
  }
  throw new Complaint(`${called} does not tell which distribution it is: it has no etc/os-release`, {
    hint: 'name it: --distro debian',
    exitCode: 2,
  })
}

/**
 * Only the packages that a file names, one glob a line.
 * @throws Complaint where it names none of them
 */
export async function watchedOnly(
  packages: readonly Installed[],
  file: string | undefined,
): Promise<readonly Installed[]> {
  if (file === undefined) return packages
  const text = await givenText('--watch-list', file)
  const lines = text.split('\n').map((line) => line.replace(/#.*/, '').trim())
  const globs = lines.filter((line) => line !== '')
  const exact = new Set(globs.filter((glob) => !/[*?]/.test(glob)))
  const patterns = globs.filter((glob) => /[*?]/.test(glob)).map(patternOf)
  const found = packages.filter(({ name }) => exact.has(name) || patterns.some((one) => one.test(name)))
  if (found.length === 0) throw new Complaint(`nothing that ${file} names is installed`, { exitCode: 2 })
  return found
}

function patternOf(glob: string): RegExp {
  const text = glob
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replace(/\*+/g, '.*')
    .replaceAll('?', '.')
  return new RegExp(`^${text}$`)
}
