import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import type { ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import {
  generateSigningKey,
  makeLink,
  publicKeyToPem,
  signLink,
  type Envelope,
} from '../../src/attestation.ts'
import { aServer } from '../help/files.ts'
import { withinLimit } from '../help/until.ts'
import { temporaryFolder } from '../help/server.ts'
import { runHere } from '../cmd/program.ts'
import { aDebian, aRebuilder, bytesOf, hashesOf, runCheck, standingsOf, type Checked } from './help.ts'

type Replies = Readonly<Record<string, (response: ServerResponse) => void>>

/** A server that answers by the path, and 404 otherwise. */
async function aPeer(t: TestContext, replies: Replies): Promise<{ url: string; asked: string[] }> {
  const asked: string[] = []
  const url = await aServer(t, (request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://peer')
    asked.push(`${request.method} ${request.url}`)
    request.resume()
    const reply = replies[pathname]
    if (reply === undefined) response.writeHead(404).end()
    else reply(response)
  })
  return { url, asked }
}

const json =
  (document: unknown, headers: Record<string, string> = {}) =>
  (response: ServerResponse): void => {
    response.writeHead(200, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(document))
  }

/** A record of the list of API v0. */
function aRow(given: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    name: 'hello',
    version: '1.0-1',
    status: 'GOOD',
    distro: 'debian',
    suite: 'main',
    architecture: 'amd64',
    artifact_url: 'https://mirror.example/hello.deb',
    build_id: 2,
    built_at: '2026-11-22T19:37:51.862',
    has_diffoscope: false,
    has_attestation: true,
    ...given,
  }
}

function anEnvelope(key = generateSigningKey()): Envelope {
  const artifact = { file: 'hello_1.0-1_amd64.deb', ...hashesOf(bytesOf('hello')) }
  return signLink(makeLink({ artifact, input: { file: 'hello.buildinfo', ...hashesOf('input') } }), key)
}

/** A server as upstream's: lists, no bulk look-up, attestations one by one. */
function upstreamReplies(envelope: Envelope, shown = generateSigningKey()): Replies {
  return {
    '/amd64/api/v0/pkgs/list': json([
      aRow(),
      aRow({ name: 'world', status: 'BAD', build_id: 3 }),
      aRow({ name: 5 }),
    ]),
    '/amd64/api/v1/meta/public-keys': json({ current: [publicKeyToPem(shown.publicKey)] }),
    '/amd64/api/v1/builds/2/artifacts': json([
      { id: 8, name: 'hello-doc', has_diffoscope: false, has_attestation: true, status: 'GOOD' },
      { id: 9, name: 'hello', has_diffoscope: false, has_attestation: true, status: 'GOOD' },
    ]),
    '/amd64/api/v1/builds/2/artifacts/9/attestation': json(envelope),
  }
}

test('a server without bulk look-up is asked for its list, below a path per architecture', async (t) => {
  const home = await temporaryFolder(t)
  const root = await aDebian(t, ['hello', 'world'])
  const key = generateSigningKey()
  const { url, asked } = await aPeer(t, upstreamReplies(anEnvelope(key), key))

  const { document, stderr, code } = await runCheck(home, [
    '--root',
    root,
    '--rebuilder',
    `${url}/{architecture}`,
  ])

  assert.deepEqual(standingsOf(document), { hello: 'verified', world: 'BAD' })
  assert.equal(code, 0)
  assert.match(stderr, /1 entries of its list cannot be read/)
  assert.equal(asked.includes('GET /amd64/api/v0/pkgs/list?distro=debian'), true)
})

test('a list that did not change is not sent again', async (t) => {
  const home = await temporaryFolder(t)
  const root = await aDebian(t, ['hello'])
  let sent = 0
  const url = await aServer(t, (request, response) => {
    const headers = { 'last-modified': 'Sun, 22 Nov 2026 19:37:51 GMT' }
    request.resume()
    if (request.url?.startsWith('/api/v0/pkgs/list') !== true) response.writeHead(404).end()
    else if (request.headers['if-modified-since'] === headers['last-modified']) response.writeHead(304).end()
    else {
      sent++
      response.writeHead(200, headers).end(JSON.stringify([aRow()]))
    }
  })

  const first = await runCheck(home, ['--root', root, '--rebuilder', url])
  const second = await runCheck(home, ['--root', root, '--rebuilder', url])

  assert.deepEqual(
    [standingsOf(first.document), standingsOf(second.document)],
    [{ hello: 'claimed' }, { hello: 'claimed' }],
  )
  assert.equal(sent, 1)
})

test('where API v0 is gone the list of v1 serves', async (t) => {
  const home = await temporaryFolder(t)
  const root = await aDebian(t, ['hello'])
  const key = generateSigningKey()
  const { distro: _, ...row } = aRow({ distribution: 'debian', artifact_id: 9, attestation_log_id: 4 })
  const { url } = await aPeer(t, {
    '/api/v1/packages/binary': json({ total: 1, records: [row] }),
    '/api/v1/meta/public-keys': json({ current: [publicKeyToPem(key.publicKey)] }),
    '/api/v1/builds/2/artifacts/9/attestation': json(anEnvelope(key)),
  })

  const { document } = await runCheck(home, ['--root', root, '--rebuilder', url])

  assert.deepEqual(standingsOf(document), { hello: 'verified' })
})

test('a forged attestation is refused and told, and an honest rebuilder beside it counts', async (t) => {
  const home = await temporaryFolder(t)
  const root = await aDebian(t, ['hello'])
  const honest = await aRebuilder(t, { hello: 'GOOD' })
  const forged = anEnvelope()
  const { url } = await aPeer(t, upstreamReplies(forged))

  const liar = await runCheck(home, ['--root', root, '--rebuilder', `${url}/amd64`])
  const args = ['--root', root, '--rebuilder', `${url}/amd64`, '--rebuilder', honest.address]
  const both = await runCheck(home, args)

  assert.deepEqual([standingsOf(liar.document), liar.code], [{ hello: 'claimed' }, 4])
  assert.match(liar.stderr, /has 1 attestation that its known key did not sign/)
  assert.deepEqual([standingsOf(both.document), both.code], [{ hello: 'verified' }, 4])
})

test('a signature over other text than the envelope shows is forged', async (t) => {
  const home = await temporaryFolder(t)
  const root = await aDebian(t, ['hello'])
  const key = generateSigningKey()
  const { signatures } = anEnvelope(key)
  const signed = { ...anEnvelope(key).signed, name: 'rebuild something else' }
  const { url } = await aPeer(t, upstreamReplies({ signatures, signed }, key))

  const { document, code } = await runCheck(home, ['--root', root, '--rebuilder', `${url}/amd64`])

  assert.deepEqual([standingsOf(document), code], [{ hello: 'claimed' }, 4])
})

/** What a server may send instead of an answer, and what is said of it. */
const oddities: Readonly<Record<string, { replies: Replies; said: RegExp; outlasts?: true }>> = {
  'a list of the wrong type': {
    replies: { '/api/v0/pkgs/list': json({ records: 'none' }) },
    said: /the reply is no list/,
  },
  'text that is no JSON': {
    replies: { '/api/v0/pkgs/list': (response) => void response.end('<html>not here</html>') },
    said: /the reply is not JSON/,
  },
  'a list that ends early': {
    replies: { '/api/v0/pkgs/list': (response) => void response.end('[{"name": "hello"') },
    said: /the reply ends early/,
  },
  'a look-up with wrong types': {
    replies: { '/api/v1/packages/lookup': json({ records: [{ status: 7 }] }) },
    said: /1 of its answers cannot be read and do not count/,
  },
  'a look-up that is no list': {
    replies: { '/api/v1/packages/lookup': json({ records: 'none' }) },
    said: /the reply: `records` /,
  },
  'a look-up that answers more than was asked': {
    replies: { '/api/v1/packages/lookup': json({ records: [null, null] }) },
    said: /the reply tells of 2 packages, not of 1/,
  },
  'a look-up without end': {
    replies: {
      '/api/v1/packages/lookup': (response) => {
        const pour = (): void => {
          while (!response.destroyed && response.write(Buffer.alloc(1_000_000, ' '))) continue
        }
        response.write('{"records":[')
        response.on('drain', pour)
        pour()
      },
    },
    said: /an element that is too long/,
  },
  'a look-up whose key is none': {
    replies: { '/api/v1/packages/lookup': json({ records: [null], public_keys: { current: ['a key'] } }) },
    said: /its key cannot be read: there is no PUBLIC KEY block/,
  },
  'an element without end': {
    replies: {
      '/api/v0/pkgs/list': (response) => {
        response.end(`[{"name": "${'a'.repeat(3_000_000)}`)
      },
    },
    said: /an element that is too long/,
  },
  'a reply that never ends': {
    replies: {
      '/api/v0/pkgs/list': (response) => {
        response.write('[')
        const more = setInterval(() => response.write(' '), 20)
        response.on('close', () => clearInterval(more))
      },
    },
    said: /it did not answer in time/,
    outlasts: true,
  },
  'a server that is silent': {
    replies: { '/api/v1/packages/lookup': () => {} },
    said: /it did not answer in time/,
    outlasts: true,
  },
  'a server that fails': {
    replies: { '/api/v1/packages/lookup': (response) => void response.writeHead(500).end() },
    said: /the server answers 500/,
  },
}

/** Gives rebuilders no more time than the last of them needs, which a busy machine may slow down. */
const inLittleTime = (home: string, args: readonly string[]): Promise<Checked> =>
  withinLimit(
    (seconds) => runCheck(home, ['--timeout', String(seconds), ...args]),
    ({ document }) => document.rebuilders.at(-1)?.has_answered === true,
  )

for (const [what, { replies, said, outlasts = false }] of Object.entries(oddities)) {
  test(`${what} costs that rebuilder its voice, no more`, async (t) => {
    const home = await temporaryFolder(t)
    const root = await aDebian(t, ['hello'])
    const { address } = await aRebuilder(t, { hello: 'GOOD' })
    const { url } = await aPeer(t, replies)

    const args = ['--root', root, '--rebuilder', url, '--rebuilder', address]
    const check = outlasts ? inLittleTime : runCheck
    const { document, stderr, code } = await check(home, args)

    assert.deepEqual([standingsOf(document), code], [{ hello: 'verified' }, 0])
    assert.match(stderr, said)
  })
}

test('questions follow redirects with what they ask, but not for ever', async (t) => {
  const home = await temporaryFolder(t)
  const root = await aDebian(t, ['hello'])
  const { address } = await aRebuilder(t, { hello: 'GOOD' })
  const leading = (location: (path: string) => string): Promise<string> =>
    aServer(t, (request, response) => {
      request.resume()
      response.writeHead(301, { location: location(request.url ?? '/') }).end()
    })
  const moved = await leading((path) => address + path)
  const around = await leading((path) => path)
  const nowhere = await leading(() => 'file:///etc/passwd')

  const args = [moved, around, nowhere].flatMap((url) => ['--rebuilder', url])
  const { document, stderr } = await runCheck(home, ['--root', root, ...args])

  assert.deepEqual(standingsOf(document), { hello: 'verified' })
  assert.match(stderr, /it redirects without end/)
  assert.match(stderr, /it redirects to no address/)
})

test('a redirect from https to http is not followed: anybody on the way could answer', async (t) => {
  const home = await temporaryFolder(t)
  const root = await aDebian(t, ['hello'])
  const { address } = await aRebuilder(t, { hello: 'GOOD' })
  const [key, cert] = [join(home, 'key.pem'), join(home, 'cert.pem')]
  const subject = ['-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1']
  const making = ['req', '-x509', '-newkey', 'ed25519', '-nodes', '-keyout', key, '-out', cert, ...subject]
  execFileSync('openssl', making, { stdio: 'ignore' })
  const server = createServer(
    { key: await readFile(key), cert: await readFile(cert) },
    (request, response) => {
      request.resume()
      response.writeHead(307, { location: address + (request.url ?? '/') }).end()
    },
  )
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}` // it listens on a port

  const { stderr, code } = await runCheck(home, ['--root', root, '--rebuilder', url], {
    environment: { NODE_EXTRA_CA_CERTS: cert },
  })

  assert.equal(code, 1)
  assert.match(stderr, /it redirects from https to http/)
})

test('a reply of more than 100 MB is cut off', async (t) => {
  const home = await temporaryFolder(t)
  const root = await aDebian(t, ['hello'])
  const { address } = await aRebuilder(t, { hello: 'GOOD' })
  const row = Buffer.from(`${JSON.stringify(aRow({ name: 'other' }))},`.repeat(4000))
  const { url } = await aPeer(t, {
    '/api/v0/pkgs/list': (response) => {
      response.write('[')
      const pour = (): void => {
        while (!response.destroyed && response.write(row)) continue
      }
      response.on('drain', pour)
      pour()
    },
  })

  const args = ['--root', root, '--rebuilder', url, '--rebuilder', address]
  const { document, stderr } = await runCheck(home, args)

  assert.deepEqual(standingsOf(document), { hello: 'verified' })
  assert.match(stderr, /the reply is longer than \d+ bytes/)
})

/** A record of a look-up. */
function aRecord(given: Record<string, unknown>): Record<string, unknown> {
  const none = { reason: null, release: null, sha256: null, size: null, artifact_id: null, decided_at: null }
  return { ...none, build_id: 1, has_attestation: false, ...given }
}

test('what a server says reaches neither the terminal nor the table as commands', async (t) => {
  const home = await temporaryFolder(t)
  const root = await aDebian(t, ['hello'])
  const escape = '\u001b]0;owned\u0007'
  const { url } = await aPeer(t, {
    '/api/v1/packages/lookup': json({ records: [aRecord({ status: 'BAD', reason: escape })] }),
  })
  const page = join(home, 'page.html')
  const args = ['ctl', 'check', '--root', root, '--rebuilder', url, '--html', page]

  const shown = await runHere(args, { home })
  const { document } = await runCheck(home, ['--root', root, '--rebuilder', url])

  assert.deepEqual(standingsOf(document), { hello: 'BAD' })
  assert.match(shown.stdout, /BAD +hello .*\\x1b\]0;owned\\x07/)
  assert.equal(shown.code, 0)
  const text = shown.stdout + shown.stderr + (await readFile(page, 'utf8')) + JSON.stringify(document)
  assert.equal(/\u001b|\\u001b/.test(text), false)
})

test('words of a newer server that are not known here do not silence it', async (t) => {
  const home = await temporaryFolder(t)
  const root = await aDebian(t, ['odd', 'strange', 'new', 'plain'])
  const { url } = await aPeer(t, {
    '/api/v1/packages/lookup': json({
      more: 1,
      records: [
        aRecord({ status: 'BAD', reason: 'cosmic_rays', colour: 'blue' }),
        aRecord({ status: 'FAIL', reason: 'constructor' }),
        aRecord({ status: 'MAYBE' }),
        { status: 'GOOD' },
      ],
    }),
  })

  const { document, stderr } = await runCheck(home, ['--root', root, '--rebuilder', url])
  const args = ['ctl', 'check', '--root', root, '--rebuilder', url]
  const { stdout } = await runHere(args, { home })

  assert.equal(stderr, '')
  assert.deepEqual(
    document.packages.map(({ standing, reason }) => [standing, reason]),
    [
      ['BAD', 'cosmic_rays'],
      ['FAIL', 'constructor'],
      ['unknown', 'the rebuilder says "MAYBE"'],
      ['claimed', 'there is no attestation'],
    ],
  )
  assert.match(stdout, /BAD +odd +1\.0-1 +amd64 +cosmic_rays +http/)
  assert.match(stdout, /FAIL +strange +1\.0-1 +amd64 +constructor +http/)
})

test('a list of a newer server may know more statuses than we do', async (t) => {
  const home = await temporaryFolder(t)
  const root = await aDebian(t, ['hello', 'world'])
  const rows = [aRow({ status: 'MAYBE' }), aRow({ name: 'world', status: 'BAD' })]
  const { url } = await aPeer(t, { '/api/v0/pkgs/list': json(rows) })

  const { document, stderr } = await runCheck(home, ['--root', root, '--rebuilder', url])

  assert.deepEqual([standingsOf(document), stderr], [{ hello: 'unknown', world: 'BAD' }, ''])
  assert.equal(document.packages[0]?.reason, 'the rebuilder says "MAYBE"')
})
