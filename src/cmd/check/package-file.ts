import { createReadStream } from 'node:fs'
import { open, stat } from 'node:fs/promises'
import { decompressed } from '../../compression.ts'
import { Complaint, during } from '../../errors.ts'
import { stanzaOf } from '../../sync/deb822.ts'
import { givenTrouble } from './given.ts'
import { isWord, type Installed } from './installed.ts'
import { sha256OfFile } from './published.ts'
import { rpmIdentity } from './rpm-header.ts'
import { tarEntry } from './tar-entry.ts'

type Identity = Pick<Installed, 'name' | 'version' | 'architecture'>

const longestControl = 16 * 1024 * 1024
/** Most plain bytes that are looked through for .PKGINFO, which makepkg puts first. */
const longestBeginning = 256 * 1024 * 1024

/**
 * A downloaded package: name, version and architecture from the file itself, and the SHA-256 of its bytes.
 * @param distribution null: the one that usually has such files
 * @throws Complaint where it is no .deb, .pkg.tar.* or .rpm
 */
export async function packageOfFile(
  path: string,
  distribution: string | null,
  signal: AbortSignal,
): Promise<Installed> {
  const found = await stat(path).catch((error: unknown) => {
    throw givenTrouble('--file', path, error)
  })
  return during(`reading ${path}`, async () => {
    if (!found.isFile()) throw new Complaint('it is no file', { exitCode: 2 })
    const { identity, usual } = await identified(path, signal)
    const { name, version, architecture } = identity
    if (!isWord(name) || !isWord(version) || !isWord(architecture)) {
      throw new Complaint('it has no name, version or architecture that is one')
    }
    const sha256 = await sha256OfFile(path, signal)
    return { distribution: distribution ?? usual, name, version, architecture, size: found.size, sha256 }
  })
}

async function identified(path: string, signal: AbortSignal): Promise<{ identity: Identity; usual: string }> {
  const magic = await bytesAt(path, 0, 8)
  if (magic.toString('latin1') === '!<arch>\n')
    return { identity: await ofDeb(path, signal), usual: 'debian' }
  if (magic.readUInt32BE(0) === 0xedabeedb) {
    return { identity: rpmIdentity(await bytesAt(path, 0, 32 * 1024 * 1024)), usual: 'fedora' }
  }
  return { identity: await ofPacman(path, signal), usual: 'archlinux' }
}

/** Up to `length` bytes; at least eight, or it is no package. */
async function bytesAt(path: string, position: number, length: number): Promise<Buffer> {
  const file = await open(path)
  try {
    const size = Math.min(length, Math.max(0, (await file.stat()).size - position))
    const bytes = Buffer.alloc(size)
    const { bytesRead } = await file.read(bytes, 0, size, position)
    if (bytesRead < Math.min(8, length)) throw notOne()
    return bytes.subarray(0, bytesRead)
  } finally {
    await file.close()
  }
}

function notOne(): Complaint {
  return new Complaint('it is no package', {
    hint: '.deb, .pkg.tar.zst and .rpm files can be checked',
    exitCode: 2,
  })
}

/** An ar archive (man7.org/linux/man-pages/man5/deb.5.html) that has a tar with the file `control`. */
async function ofDeb(path: string, signal: AbortSignal): Promise<Identity> {
  let at = 8
  for (let members = 0; members < 20; members++) {
    const header = await bytesAt(path, at, 60)
    if (header.length < 60) break
    const name = header.toString('latin1', 0, 16).trim().replace(/\/$/, '')
    const size = Number(header.toString('latin1', 48, 58).trim())
    if (!Number.isSafeInteger(size) || size < 0) break
    if (/^control\.tar(\.\w+)?$/.test(name)) return controlOf(path, at + 60, size, signal)
    at += 60 + size + (size % 2)
  }
  throw new Complaint('it is a damaged .deb: it has no control.tar')
}

async function controlOf(path: string, start: number, size: number, signal: AbortSignal): Promise<Identity> {
  if (size === 0 || size > longestControl) throw new Complaint('its control.tar is empty or too long')
  const chunks = createReadStream(path, { start, end: start + size - 1, signal }) as AsyncIterable<Uint8Array>
  const plain = decompressed(chunks, { limit: longestControl, what: 'its control.tar' })
  const control = await tarEntry(plain, /^(\.\/)?control$/)
  if (control === null) throw new Complaint('its control.tar has no control')
  const {
    Package: name = '',
    Version: version = '',
    Architecture: architecture = '',
  } = stanzaOf(control, 'its control').fields
  return { name, version, architecture }
}

/** A tar with the file `.PKGINFO` (man.archlinux.org/man/BUILDINFO.5 tells of its neighbour). */
async function ofPacman(path: string, signal: AbortSignal): Promise<Identity> {
  const chunks = createReadStream(path, { signal }) as AsyncIterable<Uint8Array>
  const plain = decompressed(chunks, { limit: longestBeginning, what: 'it' })
  const info = await tarEntry(plain, /^(\.\/)?\.PKGINFO$/)
  if (info === null) throw notOne()
  const text = Buffer.from(info).toString('utf8')
  const field = (name: string): string => new RegExp(`^${name} = (.*)$`, 'm').exec(text)?.[1]?.trim() ?? ''
  return { name: field('pkgname'), version: field('pkgver'), architecture: field('arch') }
}
