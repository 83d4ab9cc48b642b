/** A large report is read some packages at a time, and what comes of it is what comes of the whole. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isDeepStrictEqual } from 'node:util'
import { zstdCompressSync } from 'node:zlib'
import { parsedBody, wholeRelease } from '../../src/server/body.ts'
import { Refusal } from '../../src/server/refusal.ts'
import { reportIn } from '../../src/server/report-parts.ts'
import { PackageReport, listBinaryPackages } from '../../src/wire/packages.ts'
import { aPackage, aReport, startServer } from '../help/server.ts'

const packages = Array.from({ length: 1500 }, (_, index) => aPackage({ name: `pkg-${index}` }))
const whole = JSON.stringify(aReport(packages))
const members = JSON.stringify(packages).slice(1, -1)
const [head, tail] = ['{"distribution":"debian","release":null,"architecture":"amd64",', '"index":"signed"}']
/** So much text that what follows it begins a part of its own. */
const full = JSON.stringify(aPackage({ name: 'x'.repeat(200), maintainer: 'y'.repeat(900) }))
const part = Array.from({ length: Math.ceil((128 * 1024) / full.length) }, () => full).join(',')

async function outcome(work: Promise<unknown>): Promise<unknown> {
  return work.catch((error: unknown) => {
    assert.ok(error instanceof Refusal)
    return `${error.status} ${error.message}`
  })
}

for (const [what, text] of [
  ['as clients send it', whole],
  ['indented', JSON.stringify(aReport(packages), null, 2)],
  ['without packages', `${head}"packages":[ ],${tail}`],
  ['with its packages at the end', `${head}"index":null,"packages":[${members}]}`],
  ['with brackets, quotes and commas in texts', whole.replaceAll('pkg-7', 'pkg],[{\\"packages\\":[\\\\')],
  ['with members that nobody knows', `${head}"more":{"packages":[1,[2]]},"packages":[${members}],${tail}`],
  ['with its packages twice', `${head}"packages":[${members}],"packages":[${full}],${tail}`],
  ['with its packages under an escaped name', `${head}"p\\u0061ckages":[${members}],${tail}`],
  ['with both', `${head}"packages":[${members}],"p\\u0061ckages":[${full}],${tail}`],
  ['with an empty list behind the full one', `${head}"packages":[${members}],"p\\u0061ckages":[],${tail}`],
  ['with a comma too many', `${head}"packages":[${part},],${tail}`],
  ['with two commas', `${head}"packages":[${part},,${full}],${tail}`],
  ['with a comma too few', `${head}"packages":[${part} ${full}],${tail}`],
  ['with a comma first', `${head}"packages":[,${part}],${tail}`],
  ['with brackets that do not match', `${head}"packages":[${part}},${tail}`],
  ['with a package that lacks its version', `${head}"packages":[${part},{"name":"last"}],${tail}`],
  ['without its end', whole.slice(0, -300)],
  ['with something behind it', `${whole}{}`],
  ['as a list', `[${whole}]`],
  ['with a text that has no end', `${head}"packages":[${part},"`],
] as const) {
  test(`a report ${what} is read in parts as it is read as a whole`, async () => {
    const bytes = new TextEncoder().encode(text)

    const [inParts, atOnce] = [
      await outcome(reportIn(bytes)),
      await outcome(parsedBody(PackageReport, bytes, wholeRelease)),
    ]
    assert.ok(isDeepStrictEqual(inParts, atOnce), `${short(inParts)}, not ${short(atOnce)}`)
  })
}

for (const count of [300, 1500]) {
  test(`a compressed report of ${count} packages, none like another, is taken whole`, async (t) => {
    const { address, cookie, call } = await startServer(t)
    const given = packages.slice(0, count).map((item) => ({ ...item, maintainer: randomText(400) }))
    const body = zstdCompressSync(JSON.stringify(aReport(given)))
    assert.ok(body.length > 64 * 1024) // else it is unpacked at once

    const reply = await fetch(`${address}/api/v1/packages`, {
      method: 'POST',
      headers: { 'x-auth-cookie': cookie, 'content-type': 'application/json', 'content-encoding': 'zstd' },
      body,
    })

    assert.equal(await reply.text(), '')
    assert.equal(reply.status, 204)
    assert.equal((await call(listBinaryPackages, { query: { limit: 1 } })).total, count)
  })
}

function short(given: unknown): string {
  return JSON.stringify(given).slice(0, 300)
}

function randomText(length: number): string {
  return Buffer.from(crypto.getRandomValues(new Uint8Array(length))).toString('base64')
}
