import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { newestVersion } from '../../src/sync/tails.ts'
import { aFolder, put, serveFolder } from '../help/archives.ts'
import { sync } from '../help/sync.ts'

const listing =
  '<a href="tails-amd64-6.9/">6.9</a> <a href="tails-amd64-6.10/">6.10</a> <a href="tails-arm64-7.0/">7.0</a>'

test('the newest image is one package with two files', async (t) => {
  const folder = await aFolder(t)
  await put(join(folder, 'tails/stable'), listing)
  const server = await serveFolder(t, folder)
  const source = `${server.url}/tails`

  const { reports, error } = await sync({
    distro: 'tails',
    source,
    releases: ['stable'],
    architectures: ['amd64'],
    allow_unsigned: true,
  })

  assert.equal(error, null)
  const url = `${source}/stable/tails-amd64-6.10/tails-amd64-6.10`
  const file = { version: '6.10', component: null, architecture: 'amd64', sha256: null, size: null }
  assert.deepEqual(reports, [
    {
      distribution: 'tails',
      release: 'stable',
      architecture: 'amd64',
      index: 'unsigned',
      packages: [
        {
          name: 'tails',
          version: '6.10',
          url: `${url}.img`,
          maintainer: null,
          artifacts: [
            { ...file, name: 'tails-amd64-6.10.img', url: `${url}.img` },
            { ...file, name: 'tails-amd64-6.10.iso', url: `${url}.iso` },
          ],
        },
      ],
    },
  ])
})

test('a listing needs the trust of the profile', async (t) => {
  const folder = await aFolder(t)
  await put(join(folder, 'stable'), listing)
  const profile = { distro: 'tails', source: folder, releases: ['stable'], architectures: ['amd64'] }

  assert.match((await sync(profile)).error?.message ?? '', /not proven/)
})

test('a listing without an image of the architecture changes nothing', async (t) => {
  const folder = await aFolder(t)
  await put(join(folder, 'stable'), listing)
  const profile = {
    distro: 'tails',
    source: folder,
    releases: ['stable', 'alpha'],
    architectures: ['i386'],
    allow_unsigned: true,
  }

  const { reports, error } = await sync(profile)

  assert.deepEqual(reports, [])
  assert.match(error?.message ?? '', /lists no tails-i386.*has no alpha/)
})

for (const [versions, expected] of [
  [['6.0~rc1', '6.0'], '6.0'],
  [['6.0', '6.0.1'], '6.0.1'],
  [['6.9', '6.10'], '6.10'],
  [['6.10', '5.99', '6.2'], '6.10'],
  [[], null],
] as const) {
  test(`the newest of ${versions.join(', ') || 'none'} is ${expected ?? 'none'}`, () => {
    const html = versions.map((version) => `<a href="tails-amd64-${version}/">`).join('\n')

    assert.equal(newestVersion(html, 'amd64'), expected)
  })
}
