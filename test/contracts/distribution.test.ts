import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { gzipSync } from 'node:zlib'
import {
  aBinary,
  aFolder,
  aPacmanPackage,
  aSource,
  pacmanDb,
  put,
  writeDebianArchive,
  writeRpmRepository,
} from '../help/archives.ts'
import { distributionContract } from './distribution.ts'

distributionContract('debian', async (t: TestContext) => {
  const source = await aFolder(t)
  await writeDebianArchive(source, {
    binaries: {
      'main/amd64': [aBinary(), aBinary({ Package: 'hello-doc', Source: 'hello', Architecture: 'all' })],
    },
    sources: { main: [aSource()] },
  })
  const scope = { components: ['main'], releases: ['test'], architectures: ['amd64', 'all'] }
  return { root: source, profile: { distro: 'debian', source, allow_unsigned: true, ...scope } }
})

distributionContract('archlinux', async (t: TestContext) => {
  const root = await aFolder(t)
  const db = await pacmanDb({
    'a-1': aPacmanPackage({ NAME: 'a' }),
    'b-1': aPacmanPackage({ NAME: 'b', BASE: 'a' }),
  })
  await put(join(root, 'core/os/x86_64/core.db'), gzipSync(db))
  const scope = { components: ['core'], architectures: ['x86_64'] }
  return {
    root,
    profile: { distro: 'archlinux', source: `${root}/$repo/os/$arch`, allow_unsigned: true, ...scope },
  }
})

distributionContract('fedora', async (t: TestContext) => {
  const source = await aFolder(t)
  await writeRpmRepository(join(source, '43/Everything/x86_64/os'), [
    { name: 'a' },
    { name: 'b', epoch: '1' },
  ])
  const scope = { components: ['Everything'], releases: ['43'], architectures: ['x86_64'] }
  return { root: source, profile: { distro: 'fedora', source, allow_unsigned: true, ...scope } }
})

distributionContract('tails', async (t: TestContext) => {
  const source = await aFolder(t)
  await put(join(source, 'stable'), '<a href="tails-amd64-6.10/">')
  const scope = { releases: ['stable'], architectures: ['amd64'] }
  return { root: source, profile: { distro: 'tails', source, allow_unsigned: true, ...scope } }
})
