import assert from 'node:assert/strict'
import { cp, mkdir, readFile, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { getPublicKeys } from '../../src/wire/meta.ts'
import { temporaryFolder } from '../help/server.ts'
import { runHere } from '../cmd/program.ts'
import { aClosedPort, aDebian, aListener, aRebuilder, runCheck, standingsOf } from './help.ts'

test('a package is verified by as many distinct rebuilders as asked for, and claimed or partly by fewer', async (t) => {
  const home = await temporaryFolder(t)
  const root = await aDebian(t, ['both', 'one', 'said', 'differs', 'fails', 'new', 'alien'])
  const first = await aRebuilder(t, {
    both: 'GOOD',
    one: 'GOOD',
    said: 'GOOD',
    differs: 'BAD',
    fails: 'FAIL',
    new: 'UNKWN',
  })
  const second = await aRebuilder(t, { both: 'GOOD', one: 'BAD', said: 'claimed', differs: 'BAD' })
  const third = await aRebuilder(t, { differs: 'GOOD' })
  const rebuilders = [first, second, third].flatMap(({ address }) => ['--rebuilder', address])

  const { document, stderr, code } = await runCheck(home, ['--root', root, '--threshold', '2', ...rebuilders])
  const said = document.packages.find(({ name }) => name === 'said')
  const alone = await runCheck(home, ['--root', root, ...rebuilders.slice(0, 2)])

  assert.deepEqual([code, alone.stderr], [0, ''])
  assert.match(stderr, /nobody has vouched for the keys of http:.*, http:.*public_key in \[\[rebuilder\]\]/)
  assert.deepEqual(
    document.rebuilders.map(({ voice, key_from }) => [voice, key_from]),
    [1, 2, 3].map((voice) => [voice, 'first met']),
  )
  assert.deepEqual(standingsOf(document), {
    both: 'verified',
    one: 'BAD',
    said: 'claimed',
    differs: 'BAD',
    fails: 'FAIL',
    new: 'unknown',
    alien: 'unknown',
  })
  assert.deepEqual(document.disagreements, ['one', 'differs'])
  assert.equal(document.summary['verified']?.count, 1)
  assert.deepEqual(
    namesIn(document).filter((name) => !/^[a-z][a-z0-9_]*$/.test(name) && !/^(BAD|FAIL)$/.test(name)),
    [],
  )
  const fails = document.packages.find(({ name }) => name === 'fails')
  assert.equal(fails?.reason, 'build_failed')
  assert.equal(said?.reason, 'attested by 1 of the 2 that are asked for')
  assert.match(fails?.link ?? '', /^http:\/\/127\.0\.0\.1:\d+\/api\/v1\/builds\/\d+\/log$/)
  assert.equal(standingsOf(alone.document)['one'], 'verified')
})

test('a rebuilder that is down is told, and the others still count', async (t) => {
  const home = await temporaryFolder(t)
  const root = await aDebian(t, ['hello'])
  const { address } = await aRebuilder(t, { hello: 'GOOD' })

  const down = await aClosedPort()
  const args = ['--root', root, '--rebuilder', address, '--rebuilder', down]
  const { document, stderr, code } = await runCheck(home, args)

  assert.deepEqual(standingsOf(document), { hello: 'verified' })
  assert.deepEqual(
    document.rebuilders.map(({ has_answered }) => has_answered),
    [true, false],
  )
  assert.match(stderr, /: it cannot be reached/)
  assert.equal(stderr.includes(down), true)
  assert.equal(code, 0)
})

test('when no rebuilder answers nothing is said of the packages', async (t) => {
  const home = await temporaryFolder(t)
  const root = await aDebian(t, ['hello'])

  const { stdout, stderr, code } = await runCheck(home, ['--root', root, '--rebuilder', await aClosedPort()])

  assert.deepEqual([stdout, code], ['', 1])
  assert.match(stderr, /no rebuilder answered: http:\/\/127\.0\.0\.1:\d+: it cannot be reached/)
})

test('proofs of other bytes than the archive publishes prove nothing', async (t) => {
  const home = await temporaryFolder(t)
  const root = await aDebian(t, ['hello'])
  const { address } = await aRebuilder(t, { hello: 'GOOD' }, { bytes: () => 'bytes with a back door' })

  const { document } = await runCheck(home, ['--root', root, '--rebuilder', address])

  assert.deepEqual(standingsOf(document), { hello: 'unknown' })
  assert.equal(document.packages[0]?.reason, 'another file than the published one was rebuilt')
})

test('without a published hash GOOD is only a claim, whatever is signed', async (t) => {
  const home = await temporaryFolder(t)
  const root = await aDebian(t, ['hello'], {
    'var/lib/apt/lists/mirror.example_debian_dists_sid_main_binary-amd64_Packages': '',
  })
  const { address } = await aRebuilder(t, { hello: 'GOOD' })

  const { document } = await runCheck(home, ['--root', root, '--rebuilder', address])

  assert.deepEqual(standingsOf(document), { hello: 'claimed' })
  assert.equal(document.packages[0]?.reason, 'the hash of the published file is not known here')
})

test('two published files of one version leave open which is installed', async (t) => {
  const home = await temporaryFolder(t)
  const other = `Package: hello\nVersion: 1.0-1\nArchitecture: amd64\nSHA256: ${'0'.repeat(64)}\n`
  const root = await aDebian(t, ['hello'], { 'var/lib/apt/lists/other.example_Packages': other })
  const { address } = await aRebuilder(t, { hello: 'GOOD' })

  const { document } = await runCheck(home, ['--root', root, '--rebuilder', address])

  assert.deepEqual(standingsOf(document), { hello: 'claimed' })
  assert.equal(document.packages[0]?.reason, 'several files of this version are published')
})

test('one rebuilder under two addresses is one voice', async (t) => {
  const home = await temporaryFolder(t)
  const root = await aDebian(t, ['hello'])
  const { address } = await aRebuilder(t, { hello: 'GOOD' })
  const other = address.replace('127.0.0.1', 'localhost')

  const args = ['--root', root, '--rebuilder', address, '--rebuilder', other]
  const { document } = await runCheck(home, [...args, '--threshold', '2'])

  assert.deepEqual(standingsOf(document), { hello: 'partly' })
  assert.equal(document.packages[0]?.reason, 'GOOD by 1 of the 2 that are asked for')
})

test('a rebuilder that is met keeps its key; another one under its address is an alarm and proves nothing', async (t) => {
  const home = await temporaryFolder(t)
  const root = await aDebian(t, ['hello', 'world'])
  const honest = await aRebuilder(t, { hello: 'GOOD' })
  const other = await aRebuilder(t, { hello: 'GOOD', world: 'GOOD' })
  const keys = join(home, '.local/state/rebuilderd/rebuilders.keys')

  await runCheck(home, ['--root', root, '--rebuilder', honest.address])
  const met = await readFile(keys, 'utf8')
  const moved = met.replace(honest.address, other.address)
  await writeFile(keys, moved)
  const { document, stderr, code } = await runCheck(home, ['--root', root, '--rebuilder', other.address])

  assert.match(met, /^http:\/\/127\.0\.0\.1:\d+ ed25519 [0-9a-f]{64} \d{4}-\d\d-\d\d$/m)
  assert.equal(code, 4)
  assert.match(stderr, /the key of http:\/\/127\.0\.0\.1:\d+ has changed/)
  assert.deepEqual(standingsOf(document), { hello: 'verified', world: 'claimed' }) // hello: by what we kept of the known key
  assert.equal(document.packages[1]?.reason, 'the attestation is not signed by the known key')
  assert.equal(await readFile(keys, 'utf8'), moved)
})

test('what was proven once is not fetched again, and a damaged cache is none', async (t) => {
  const home = await temporaryFolder(t)
  const root = await aDebian(t, ['hello'])
  const { address } = await aRebuilder(t, { hello: 'GOOD' })
  const args = ['--root', root, '--rebuilder', address]

  const first = await runCheck(home, args)
  const second = await runCheck(home, args)
  const folder = join(home, '.cache/rebuilderd')
  for (const kind of await readdir(folder)) {
    for (const name of await readdir(join(folder, kind)))
      await writeFile(join(folder, kind, name), 'nonsense')
  }
  const third = await runCheck(home, args)

  for (const { document, code } of [first, second, third]) {
    assert.deepEqual([standingsOf(document), code], [{ hello: 'verified' }, 0])
  }
})

test('a cache that somebody else filled vouches for nothing', async (t) => {
  const [home, victim] = [await temporaryFolder(t), await temporaryFolder(t)]
  const root = await aDebian(t, ['hello'])
  const honest = await aRebuilder(t, { hello: 'GOOD' })
  let isSilent = false
  const without = (reply: string): string =>
    JSON.stringify(JSON.parse(reply), (name, value: unknown) => {
      return isSilent && (name === 'attestation' || name === 'has_attestation') ? undefined : value
    })
  const { url } = await aListener(t, honest.address, without)
  const args = ['--root', root, '--rebuilder', url]
  await runCheck(home, args)
  await cp(join(home, '.cache'), join(victim, '.cache'), { recursive: true })

  isSilent = true
  const { document, stderr } = await runCheck(victim, args)

  assert.deepEqual([standingsOf(document), stderr], [{ hello: 'claimed' }, ''])
})

test('a server of ours is asked once, and sends no attestation a second time', async (t) => {
  const home = await temporaryFolder(t)
  const root = await aDebian(t, ['good', 'other', 'said', 'bad'])
  const server = await aRebuilder(t, { good: 'GOOD', other: 'GOOD', said: 'claimed', bad: 'BAD' })
  const { url, asked } = await aListener(t, server.address)
  const args = ['--root', root, '--rebuilder', url]

  const first = await runCheck(home, args)
  const before = asked.splice(0)
  const second = await runCheck(home, args)

  for (const { document, stderr } of [first, second]) {
    const expected = { good: 'verified', other: 'verified', said: 'claimed', bad: 'BAD' }
    assert.deepEqual([standingsOf(document), stderr], [expected, ''])
  }
  assert.deepEqual(
    [...before, ...asked].map(({ path }) => path),
    ['/api/v1/packages/lookup', '/api/v1/packages/lookup'],
  )
  const proven = asked[0]?.body['packages'] as { name: string; proven?: boolean }[] | undefined
  assert.deepEqual(proven?.flatMap((one) => (one.proven === true ? [one.name] : [])).toSorted(), [
    'good',
    'other',
  ])
  const sizes = [...before, ...asked].map(({ reply }) => reply.match(/"signatures"/g)?.length ?? 0)
  assert.deepEqual(sizes, [2, 0])
})

test('attestations and keys that do not come with the look-up are asked for', async (t) => {
  const home = await temporaryFolder(t)
  const root = await aDebian(t, ['good', 'other', 'bad'])
  const server = await aRebuilder(t, { good: 'GOOD', other: 'GOOD', bad: 'BAD' })
  const without = (reply: string): string =>
    JSON.stringify(JSON.parse(reply), (name, value: unknown) =>
      name === 'attestation' || name === 'public_keys' ? undefined : value,
    )
  const { url, asked } = await aListener(t, server.address, without)

  const { document, stderr } = await runCheck(home, ['--root', root, '--rebuilder', url])

  assert.deepEqual([standingsOf(document), stderr], [{ good: 'verified', other: 'verified', bad: 'BAD' }, ''])
  assert.deepEqual(
    asked.map(({ path }) => path),
    ['/api/v1/packages/lookup', '/api/v1/meta/public-keys', '/api/v1/attestations'],
  )
})

test('the exit code tells whether enough is verified', async (t) => {
  const home = await temporaryFolder(t)
  const root = await aDebian(t, ['a-good', 'b-good', 'claimed', 'bad'])
  const { address } = await aRebuilder(t, {
    'a-good': 'GOOD',
    'b-good': 'GOOD',
    claimed: 'claimed',
    bad: 'BAD',
  })
  const codeOf = async (...args: string[]): Promise<number | null> =>
    (await runCheck(home, ['--root', root, '--rebuilder', address, ...args])).code

  assert.equal(await codeOf('--fail-under', '50'), 0)
  assert.equal(await codeOf('--fail-under', '51'), 3)
  assert.equal(await codeOf('--fail-under', '75', '--accept-claims'), 0)
  assert.equal(await codeOf('--threshold', '2'), 2)
  const below = await runCheck(home, ['--root', root, '--rebuilder', address, '--fail-under', '51'])
  assert.match(below.stderr, /error +check: 50\.0 % are verified, 51 % are asked for\n$/)
})

test('the configuration names rebuilders, their keys and what they are asked', async (t) => {
  const home = await temporaryFolder(t)
  const root = await aDebian(t, ['hello'])
  const known = await aRebuilder(t, { hello: 'GOOD' })
  const elsewhere = await aRebuilder(t, { hello: 'GOOD' })
  const [pem = ''] = (await known.call(getPublicKeys)).current
  await writeFile(join(home, 'key.pem'), pem)
  const config = (key: string): string => `
    [[rebuilder]]
    url = "${known.address}/"
    public_key = "${key}"
    [[rebuilder]]
    url = "${elsewhere.address}"
    distributions = ["archlinux"]
  `
  await writeFile(join(home, 'right.conf'), config(join(home, 'key.pem')))
  await writeFile(join(home, 'wrong.conf'), config('ab'.repeat(32)))

  const right = await runCheck(home, ['--root', root, '-c', join(home, 'right.conf')])
  const wrong = await runCheck(home, ['--root', root, '--fresh', '-c', join(home, 'wrong.conf')])

  assert.deepEqual(standingsOf(right.document), { hello: 'verified' })
  assert.deepEqual(
    right.document.packages[0]?.voices.map(({ rebuilder }) => rebuilder),
    [known.address],
  )
  assert.deepEqual([right.code, wrong.code], [0, 4])
  assert.deepEqual(standingsOf(wrong.document), { hello: 'claimed' })
})

test('people get a summary, what is not verified with the worst first, and a page of its own', async (t) => {
  const home = await temporaryFolder(t)
  const root = await aDebian(t, ['good', 'bad', 'odd'])
  const { address } = await aRebuilder(t, { good: 'GOOD', bad: 'BAD' })
  const page = join(home, 'report.html')

  const args = ['ctl', 'check', '--root', root, '--rebuilder', address]
  const { stdout, code } = await runHere([...args, '--html', page], { home })
  const csv = await runHere([...args, '--csv'], { home })

  assert.equal(code, 0)
  assert.match(stdout, /^3 packages \(debian, 307\.2 kB\); 1 rebuilder must confirm each\n/)
  assert.match(stdout, /^ {2}verified +1 +33\.3 % +33\.3 % of the size/m)
  assert.match(stdout, /Not verified\n {2}BAD +bad .*content_differs: .*\/log\n {2}unknown +odd /)
  const html = await readFile(page, 'utf8')
  assert.match(html, /<h1>33\.3 % of 3 packages verified<\/h1>/)
  assert.doesNotMatch(html, /<script|<link|src=/)
  assert.match(csv.stdout, /^standing,distribution,name,/)
  assert.match(csv.stdout, /\r\nBAD,debian,bad,1\.0-1,amd64,102400,[0-9a-f]{64},0,0,1,content_differs,http/)
})

test('where keys cannot be kept the check goes on, and says so', async (t) => {
  const home = await temporaryFolder(t)
  const root = await aDebian(t, ['hello'])
  const { address } = await aRebuilder(t, { hello: 'GOOD' })
  await writeFile(join(home, '.local'), 'a file where a folder should be')

  const { document, stderr, code } = await runCheck(home, ['--root', root, '--rebuilder', address])

  assert.deepEqual([standingsOf(document), code], [{ hello: 'verified' }, 0])
  assert.match(stderr, /keeping the keys of rebuilders in .*rebuilders\.keys/)
})

test('a file of keys with a line that is none stops the check', async (t) => {
  const home = await temporaryFolder(t)
  const root = await aDebian(t, ['hello'])
  const { address } = await aRebuilder(t, { hello: 'GOOD' })
  const folder = join(home, '.local/state/rebuilderd')
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, 'rebuilders.keys'), `# keys\n${address} ed25519 short\n`)

  const { stderr, code } = await runCheck(home, ['--root', root, '--rebuilder', address])

  assert.equal(code, 1)
  assert.match(stderr, /rebuilders\.keys: line 2 is not `URL ed25519 KEY DATE`/)
})

/** Names of all members, however deep. */
function namesIn(value: unknown): string[] {
  if (typeof value !== 'object' || value === null) return []
  return [...(Array.isArray(value) ? [] : Object.keys(value)), ...Object.values(value).flatMap(namesIn)]
}
