import assert from 'node:assert/strict'
import { once } from 'node:events'
import { request, type IncomingMessage } from 'node:http'
import { test, type TestContext } from 'node:test'
import { SaxesParser } from 'saxes'
import { aSigningWorker, aSmallDistribution, hostileName, rebuildNext } from '../help/pages.ts'
import { aPackage, importPackages, startServer, type TestServer } from '../help/server.ts'

const paths = [
  '/feed.atom',
  '/feed/debian/sid.atom',
  '/feed/debian/sid/hello.atom',
  `/feed.atom?maintainer=${encodeURIComponent('Ada <ada@example.org>')}`,
  `/feed.atom?maintainer=${encodeURIComponent(hostileName)}`,
]

async function aServerWithChanges(t: TestContext, settings = {}): Promise<TestServer> {
  const server = await startServer(t, { settings })
  const worker = await aSigningWorker(server)
  await aSmallDistribution(server.call, worker)
  await importPackages(
    server.call,
    [aPackage({ name: `${hostileName}\uffff\ufffe`, maintainer: hostileName })],
    { release: 'trixie' },
  )
  await rebuildNext(worker, 'FAIL', { reason: 'build_failed' }) // untried
  await rebuildNext(worker, 'BAD')
  return server
}

/** A document as somebody gets it who knows the server by another name. */
async function read(server: TestServer, path: string, host: string, scheme = 'http'): Promise<string> {
  const headers = { host, 'x-forwarded-proto': scheme }
  const asked = request(server.address + path, { headers }).end()
  const [reply] = (await once(asked, 'response')) as [IncomingMessage]
  assert.equal(reply.statusCode, 200, path)
  return Buffer.concat((await reply.toArray()) as Buffer[]).toString()
}

type Element = {
  name: string
  attributes: Record<string, string>
  text: string
  children: Element[]
}

/** Reads XML as strictly as feed readers may (w3.org/TR/xml, w3.org/TR/xml-names). */
function parsed(xml: string): Element {
  const root: Element = { name: '', attributes: {}, text: '', children: [] }
  const open = [root]
  const parser = new SaxesParser({ xmlns: true })
  parser.on('error', (error) => assert.fail(`${error.message}: ${xml}`))
  parser.on('opentag', ({ local, uri, attributes }) => {
    const texts = Object.entries(attributes).map(([name, { value }]) => [name, value] as const)
    const element: Element = {
      name: `${uri} ${local}`.replace('http://www.w3.org/2005/Atom ', ''),
      attributes: Object.fromEntries(texts),
      text: '',
      children: [],
    }
    open.at(-1)?.children.push(element)
    open.push(element)
  })
  parser.on('text', (text) => {
    const element = open.at(-1)
    if (element !== undefined) element.text += text
  })
  parser.on('closetag', () => void open.pop())
  parser.write(xml).close()
  const [feed] = root.children
  assert.equal(feed?.name, 'feed')
  return feed
}

function those(element: Element, name: string): Element[] {
  return element.children.filter((child) => child.name === name)
}

/** The text of the one child that there must be. */
function only(element: Element, name: string): string {
  const found = those(element, name)
  assert.equal(found.length, 1, `${element.name} has ${found.length} ${name}`)
  return found[0]?.text.trim() ?? ''
}

function linkOf(element: Element, rel: string): string {
  const found = those(element, 'link').filter(({ attributes }) => attributes['rel'] === rel)
  assert.equal(found.length, 1, `${element.name} has ${found.length} links that are ${rel}`)
  return found[0]?.attributes['href'] ?? ''
}

function decoded(address: string): string {
  const { origin, pathname, searchParams } = new URL(address)
  return [origin, pathname, ...[...searchParams].flat()].join(' ')
}

const absolute =
  /^(https?:\/\/|urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$)/
const moment = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/

test('every feed is sound Atom: what RFC 4287 asks for is there, ids are addresses and none comes twice', async (t) => {
  const server = await aServerWithChanges(t)

  for (const path of paths) {
    const feed = parsed(await read(server, path, 'a.example'))
    const entries = those(feed, 'entry')
    const ids = [feed, ...entries].map((element) => only(element, 'id'))

    assert.ok(entries.length > 0, path)
    for (const element of [feed, ...entries]) {
      assert.match(only(element, 'id'), absolute)
      assert.match(only(element, 'updated'), moment)
      assert.notEqual(only(element, 'title'), '')
      assert.match(linkOf(element, 'alternate'), absolute)
    }
    assert.notEqual(only(those(feed, 'author')[0] ?? feed, 'name'), '')
    assert.equal(decoded(linkOf(feed, 'self')), decoded(`http://a.example${path}`))
    assert.equal(new Set(ids).size, ids.length)
    const moments = entries.map((entry) => only(entry, 'updated'))
    assert.equal(only(feed, 'updated'), moments.toSorted().at(-1))
    for (const entry of entries) {
      const page = linkOf(entry, 'alternate').replace('http://a.example', server.address)
      assert.equal((await fetch(page)).status, 200, page)
    }
  }
})

test('ids of feeds and entries are the same by whatever name the server is reached, and in every feed', async (t) => {
  const server = await aServerWithChanges(t, { 'http.base_path': '/verify' })
  const idsAt = async (path: string, host: string, scheme?: string): Promise<string[]> => {
    const feed = parsed(await read(server, path, host, scheme))
    return [feed, ...those(feed, 'entry')].map((element) => only(element, 'id'))
  }

  for (const path of paths)
    assert.deepEqual(await idsAt(path, 'a.example'), await idsAt(path, 'b.example:8443', 'https'), path)
  const [, ...all] = await idsAt('/feed.atom', 'a.example')
  const [, ...ofOne] = await idsAt('/feed/debian/sid/hello.atom', 'a.example')

  assert.ok(ofOne.length > 0)
  assert.ok(ofOne.every((id) => all.includes(id)))
})

test('web.public_url is what feeds, commands and badges name, whatever a request says', async (t) => {
  const server = await aServerWithChanges(t, { 'web.public_url': 'https://rebuilder.example/amd64/' })

  const feed = parsed(await read(server, '/feed/debian/sid.atom', 'evil.example'))
  const about = await read(server, '/about', 'evil.example')
  const source = await read(server, '/debian/sid/hello', 'evil.example')
  const robots = await read(server, '/robots.txt', 'evil.example')

  assert.equal(linkOf(feed, 'self'), 'https://rebuilder.example/amd64/feed/debian/sid.atom')
  assert.match(about, /ctl check --rebuilder https:\/\/rebuilder\.example\/amd64</)
  assert.match(
    source,
    /\(https:\/\/rebuilder\.example\/amd64\/badge\/debian\/sid\/hello\.svg\)\]\(https:\/\/rebuilder\.example\/amd64\/debian\/sid\/hello\)/,
  )
  for (const text of [about, source, robots]) assert.doesNotMatch(text, /evil\.example/)
  for (const given of ['rebuilder.example', 'https://a b/', "https://a/'; rm", 'file:///etc'])
    await assert.rejects(startServer(t, { settings: { 'web.public_url': given } }), /web\.public_url/, given)
})
