import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdir, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { test, type TestContext } from 'node:test'
import { gzipSync } from 'node:zlib'
import { openImage } from '../../src/cmd/check/image.ts'
import { readInventory } from '../../src/cmd/check/sources.ts'
import { aTar, coded, digest, dockerArchive, ociArchive, type Coding, type Member } from '../help/images.ts'
import { lacksPrograms } from '../help/debs.ts'
import { temporaryFolder } from '../help/server.ts'
import { aRebuilder, listingOf, runCheck, standingsOf, statusOf } from './help.ts'

const release = { 'etc/os-release': 'ID=debian\n' }

function status(...names: string[]): string {
  return names.map((name) => `${statusOf(name)}\n`).join('')
}

/** Names of the packages in an image. */
async function packagesIn(t: TestContext, archive: Uint8Array): Promise<string[]> {
  const file = join(await temporaryFolder(t), 'app.tar')
  await writeFile(file, archive)
  return namesIn(file, Readable.from([]))
}

async function namesIn(file: string, input: AsyncIterable<Uint8Array>): Promise<string[]> {
  const signal = new AbortController().signal
  await using image = await openImage(file, { input, signal, progress: () => {} })
  const nothing = { file: undefined, sbom: undefined, list: undefined, distro: undefined }
  const { packages } = await readInventory({ root: image.root, called: file, ...nothing, input, signal })
  return packages.map(({ name }) => name)
}

const base = await aTar({ ...release, 'var/lib/dpkg/status': status('one') })
const upper = await aTar({ './var/lib/dpkg/status': status('one', 'two') })

for (const coding of ['plain', 'gzip', 'zstd'] as const satisfies Coding[]) {
  const layers = [base, upper].map(coded[coding])

  test(`an image is read from what docker and podman save, with ${coding} layers`, async (t) => {
    assert.deepEqual(await packagesIn(t, await dockerArchive(layers)), ['one', 'two'])
    assert.deepEqual(await packagesIn(t, await ociArchive([{ layers }])), ['one', 'two'])
  })
}

/** An archive that was unpacked. */
async function aLayout(t: TestContext, archive: Uint8Array): Promise<string> {
  const folder = await temporaryFolder(t)
  execFileSync('tar', ['-x', '-C', folder, '--no-same-owner'], { input: archive })
  return folder
}

test('an image is read from a folder that holds what an archive of it would', async (t) => {
  const layers = [base, upper].map(coded.gzip)

  for (const archive of [await dockerArchive(layers), await ociArchive([{ layers }])]) {
    assert.deepEqual(await namesIn(await aLayout(t, archive), Readable.from([])), ['one', 'two'])
  }
})

const aBlob = `blobs/sha256/${digest(base)}`
for (const [what, archive, change, words] of [
  [
    'a layer that is a link out of it',
    () => ociArchive([{ layers: [base] }]),
    async (folder: string) => {
      await writeFile(`${folder}.layer`, base)
      await rm(join(folder, aBlob))
      await symlink(`${folder}.layer`, join(folder, aBlob))
    },
    /lacks a part of the image/,
  ],
  [
    'a layer that is named above it',
    () => aTar({ 'manifest.json': '[{"Layers": ["../outside.tar"]}]' }),
    async (folder: string) => writeFile(join(folder, '../outside.tar'), base),
    /a name that leads out of it/,
  ],
  [
    'a layer that never ends',
    () => ociArchive([{ layers: [base] }]),
    async (folder: string) => {
      await rm(join(folder, aBlob))
      execFileSync('mkfifo', [join(folder, aBlob)])
    },
    /lacks a part of the image/,
  ],
  [
    'a layer that was altered',
    () => ociArchive([{ layers: [base] }]),
    async (folder: string) => writeFile(join(folder, aBlob), upper),
    /is not what the image says: its sha256/,
  ],
  ['no image', () => aTar({ 'etc/motd': 'x' }), async () => {}, /it is a folder without an image/],
] as const satisfies [string, () => Promise<Uint8Array>, (folder: string) => Promise<void>, RegExp][]) {
  test(`a folder with ${what} is refused in words`, async (t) => {
    const around = await temporaryFolder(t)
    const folder = join(around, 'image')
    await mkdir(folder)
    execFileSync('tar', ['-x', '-C', folder, '--no-same-owner'], { input: await archive() })
    await change(folder)

    await assert.rejects(namesIn(folder, Readable.from([])), (error: Error) => {
      assert.match([error.message, (error.cause as Error | undefined)?.message].join(': '), words)
      return true
    })
  })
}

test('the file system of a container, an archive that is compressed, and one on standard input', async (t) => {
  const flat = await aTar({
    ...release,
    'usr/bin/true': 'x'.repeat(100_000),
    'var/lib/dpkg/status': status('one'),
  })
  const saved = await dockerArchive([base, upper])

  assert.deepEqual(await packagesIn(t, flat), ['one'])
  assert.deepEqual(await packagesIn(t, gzipSync(saved)), ['one', 'two'])
  assert.deepEqual(await namesIn('-', Readable.from([saved.subarray(0, 700), saved.subarray(700)])), [
    'one',
    'two',
  ])
})

const dpkg = 'var/lib/dpkg'
const entry = (name: string): string => `Package: ${name}\nVersion: 1.0-1\nArchitecture: amd64\n`
const listed = { ...release, [`${dpkg}/status.d/a`]: entry('a'), [`${dpkg}/status.d/b`]: entry('b') }
const link = (linkname: string): Member => ({ type: 'symlink', linkname })
const folder: Member = { type: 'directory' }

for (const [what, layers, expected] of [
  ['a file that a layer hides is gone', [listed, { [`${dpkg}/status.d/.wh.a`]: '' }], ['b']],
  [
    'a folder that a layer hides is gone',
    [listed, { [`var/lib/.wh.dpkg`]: '', [`${dpkg}/status`]: status('c') }],
    ['c'],
  ],
  [
    'an opaque folder hides what is below it, not what its own layer has before or behind the mark',
    [
      listed,
      {
        [`${dpkg}/status.d/c`]: entry('c'),
        [`${dpkg}/status.d/.wh..wh..opq`]: '',
        [`${dpkg}/status.d/d`]: entry('d'),
      },
    ],
    ['c', 'd'],
  ],
  [
    'what was hidden comes back',
    [listed, { [`${dpkg}/status.d/.wh.a`]: '' }, { [`${dpkg}/status.d/a`]: entry('e') }],
    ['e', 'b'],
  ],
  ['other things in the place of a file', [listed, { [`${dpkg}/status.d/a`]: { type: 'fifo' } }], ['b']],
  [
    'links are followed inside the image, absolute ones and those in the middle of a path',
    [
      {
        'usr/lib/os-release': 'ID=debian\n',
        'etc/os-release': link('../usr/lib/os-release'),
        'usr/lib/sysimage/dpkg/status': status('one'),
        'var/lib': link('/../../usr/lib/sysimage'),
      },
    ],
    ['one'],
  ],
  [
    'a layer writes through a link of a lower one, and a folder takes the place of a link',
    [
      { ...release, data: folder, [dpkg]: link('/data/dpkg'), 'data/dpkg/status': status('one') },
      { [`${dpkg}/status`]: status('two') },
    ],
    ['two'],
  ],
  [
    'hard links of a layer',
    [
      {
        ...release,
        'usr/lib/os-release': { type: 'link', linkname: 'etc/os-release' },
        [`${dpkg}/status`]: status('one'),
      },
    ],
    ['one'],
  ],
] as const satisfies [string, Record<string, Member>[], string[]][]) {
  test(`image: ${what}`, async (t) => {
    const tars = await Promise.all(layers.map((layer) => aTar(layer as Record<string, Member>)))

    assert.deepEqual((await packagesIn(t, await dockerArchive(tars))).sort(), [...expected].sort())
  })
}

test('a layer may lack the zeros at its end, a file system that was exported may not', async (t) => {
  const flat = await aTar({ ...release, 'var/lib/dpkg/status': status('one') })

  assert.deepEqual(await packagesIn(t, await dockerArchive([flat.subarray(0, -1024)])), ['one'])
  await assert.rejects(packagesIn(t, flat.subarray(0, -1024)), /reading the image/)
})

const tools = lacksPrograms('umoci', 'skopeo')

test('images of umoci, as skopeo copies them', { skip: tools }, async (t) => {
  const home = await temporaryFolder(t)
  const run = (program: string, ...args: string[]): Buffer => execFileSync(program, args, { cwd: home })
  for (const [name, content] of [
    ['os-release', 'ID=debian\n'],
    ['one', entry('one')],
    ['two', entry('two')],
  ] as const)
    await writeFile(join(home, name), content)
  run('umoci', 'init', '--layout', 'layout')
  run('umoci', 'new', '--image', 'layout:app')
  run('umoci', 'insert', '--image', 'layout:app', 'os-release', '/etc/os-release')
  for (const name of ['one', 'two'])
    run('umoci', 'insert', '--image', 'layout:app', name, `/var/lib/dpkg/status.d/${name}`)
  run('umoci', 'insert', '--image', 'layout:app', '--whiteout', '/var/lib/dpkg/status.d/one')
  for (const form of ['docker', 'oci']) {
    const file = join(home, `${form}.tar`)
    run('skopeo', '--insecure-policy', 'copy', '-q', 'oci:layout:app', `${form}-archive:${file}:app:1`)

    assert.deepEqual(await namesIn(file, Readable.from([])), ['two'])
  }
  for (const more of [
    ['--format', 'v2s2'],
    ['--dest-compress', '--dest-compress-format', 'zstd'],
    ['--all'],
  ]) {
    const folder = join(home, 'flat')
    run('skopeo', '--insecure-policy', 'copy', '-q', ...more, 'oci:layout:app', `dir:${folder}`)

    assert.deepEqual(await namesIn(folder, Readable.from([])), ['two'])
    await rm(folder, { recursive: true })
  }
  run('skopeo', '--insecure-policy', 'copy', '-q', '--format', 'v2s1', 'oci:layout:app', `dir:${home}/old`)
  await assert.rejects(namesIn(join(home, 'old'), Readable.from([])), /reading the image/)
})

test('a folder of skopeo holds images of several machines, and what its digests name', async (t) => {
  const here = { os: 'linux', architecture: process.arch === 'x64' ? 'amd64' : process.arch }
  const folder = await temporaryFolder(t)
  const blob = async (content: Uint8Array | string, end = ''): Promise<{ digest: string }> => {
    await writeFile(join(folder, `${digest(content)}${end}`), content)
    return { digest: `sha256:${digest(content)}` }
  }
  const other = await aTar({ ...release, 'var/lib/dpkg/status': status('other') })
  const manifest = async (layer: Uint8Array): Promise<{ digest: string }> =>
    blob(JSON.stringify({ schemaVersion: 2, layers: [await blob(layer)] }), '.manifest.json')
  const manifests = [
    { ...(await manifest(other)), platform: { os: 'linux', architecture: 's390x' } },
    { ...(await manifest(base)), platform: here },
  ]
  await writeFile(join(folder, 'manifest.json'), JSON.stringify({ schemaVersion: 2, manifests }))

  assert.deepEqual(await namesIn(folder, Readable.from([])), ['one'])
  await writeFile(join(folder, digest(base)), upper)
  await assert.rejects(namesIn(folder, Readable.from([])), (error: Error) => {
    assert.match(String((error.cause as Error | undefined)?.message), /its sha256 is another one/)
    return true
  })
})

test('of several images the one of this machine is taken, and what is no image is passed over', async (t) => {
  const here = { os: 'linux', architecture: process.arch === 'x64' ? 'amd64' : process.arch }
  const other = await aTar({ ...release, 'var/lib/dpkg/status': status('other') })
  const notes = { 'vnd.docker.reference.type': 'attestation-manifest' }
  const archive = await ociArchive([
    { layers: [other], platform: { os: 'linux', architecture: 's390x' } },
    { layers: [base], platform: here },
    { layers: [other], platform: { os: 'unknown', architecture: 'unknown' }, annotations: notes },
  ])

  assert.deepEqual(await packagesIn(t, archive), ['one'])
})

const gzipped = gzipSync(base)
for (const [what, archive, words] of [
  ['several images', () => dockerArchive([base], ['app:1', 'app:2']), /holds 2 images: app:1, app:2/],
  [
    'a part that is not there',
    () => ociArchive([{ layers: [base] }], (files) => delete files[`blobs/sha256/${digest(base)}`]),
    /lacks a part of the image/,
  ],
  [
    'a layer that was altered',
    () => ociArchive([{ layers: [base] }], (files) => (files[`blobs/sha256/${digest(base)}`] = upper)),
    /layer|app\.tar is not what the image says: its sha256/,
  ],
  ['a layer that is cut short', () => dockerArchive([gzipped.subarray(0, -20)]), /is cut short/],
  [
    'an archive that is cut short',
    async () => (await dockerArchive([base])).subarray(0, -1024),
    /is cut short|lacks a part/,
  ],
  [
    'a layer that is none',
    () => dockerArchive([Buffer.alloc(2048, 'x')]),
    /is no whole tar: there is no header at byte 0/,
  ],
  [
    'names above it',
    async () => dockerArchive([await aTar({ '../../etc/os-release': 'x' })]),
    /a name that leads out of it: "\.\.\/\.\.\/etc/,
  ],
  [
    'links in circles',
    async () =>
      dockerArchive([await aTar({ var: link('lib'), lib: link('var'), 'var/lib/dpkg/status': 'x' })]),
    /leads nowhere/,
  ],
  ['a manifest that is none', () => aTar({ 'manifest.json': '[{"Layers": 1}]' }), /manifest\.json: /],
  ['a manifest of other things', () => aTar({ 'manifest.json': '{"layers": 1}' }), /manifest\.json: /],
  ['a manifest without layers', () => aTar({ 'manifest.json': '{}' }), /holds no image/],
  ['no system in it', () => dockerArchive([]), /does not tell which distribution it is/],
  ['words that are no archive', async () => Buffer.from('hello'.repeat(999)), /is no whole tar/],
  ['nothing', async () => Buffer.alloc(0), /is cut short/],
] as const satisfies [string, () => Promise<Uint8Array>, RegExp][]) {
  test(`an image with ${what} is refused in words, and nothing is left behind`, async (t) => {
    const tmp = process.env['TMPDIR']
    const scratch = await temporaryFolder(t)
    process.env['TMPDIR'] = scratch
    t.after(() => {
      if (tmp === undefined) delete process.env['TMPDIR']
      else process.env['TMPDIR'] = tmp
    })
    const bytes = await archive()
    const file = join(await temporaryFolder(t), 'app.tar')
    await writeFile(file, bytes)

    await assert.rejects(namesIn(file, Readable.from([])), (error: Error) => {
      const said = [error.message, (error.cause as Error | undefined)?.message].join(': ')
      assert.match(said, words)
      return true
    })

    assert.deepEqual(
      (await readdir(scratch)).filter((name) => name.startsWith('rebuilderd-image-')),
      [],
    )
  })
}

test('a saved image is checked with the lists in it, or with an index that is given', async (t) => {
  const { address } = await aRebuilder(t, { one: 'GOOD', two: 'claimed' })
  const home = await temporaryFolder(t)
  const lists = 'var/lib/apt/lists/mirror.example_dists_sid_main_binary-amd64_Packages'
  const packages = `${listingOf('one')}\n${listingOf('two')}\n`
  await writeFile(join(home, 'Packages'), packages)
  const bare = await ociArchive([{ layers: [base, upper].map(coded.gzip) }])
  await writeFile(join(home, 'bare.tar'), bare)
  await writeFile(
    join(home, 'whole.tar'),
    await dockerArchive([base, upper, await aTar({ [lists]: packages })]),
  )
  const at = (name: string): string => join(home, name)
  const to = ['--rebuilder', address]

  const whole = await runCheck(home, ['--image', at('whole.tar'), ...to])
  const given = await runCheck(home, ['--image', at('bare.tar'), '--index', at('Packages'), ...to])
  const none = await runCheck(home, ['--image', at('bare.tar'), ...to])
  const both = await runCheck(home, ['--image', at('bare.tar'), '--root', '/', ...to])
  const nowhere = await runCheck(home, ['--image', at('nowhere.tar'), ...to])

  assert.deepEqual(standingsOf(whole.document), { one: 'verified', two: 'claimed' }, whole.stderr)
  assert.deepEqual(standingsOf(given.document), { one: 'verified', two: 'claimed' })
  assert.deepEqual(standingsOf(none.document), { one: 'claimed', two: 'claimed' })
  assert.deepEqual([both.code, nowhere.code], [2, 2])
  assert.match(both.stderr, /--image and --root cannot be given together/)
  assert.match(nowhere.stderr, /nowhere\.tar: there is no such file or folder\n/)
})
