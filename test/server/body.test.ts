import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { promisify } from 'node:util'
import * as v from 'valibot'
import { parsedBody } from '../../src/server/body.ts'
import { Refusal } from '../../src/server/refusal.ts'
import { Bytes, encodeJson } from '../../src/wire/schema.ts'

const Blobs = v.looseObject({ log: Bytes })
const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text)
/** A list of the numbers 0 to 255, over and over, with something between them. */
const numbers = (count: number, joint = ','): string =>
  Array.from({ length: count }, (_, index) => index % 256).join(joint)
const filling = `"filling":"${'x'.repeat(70_000)}"`

for (const [what, text] of [
  ['a long list of bytes', `{"log":[${numbers(50_000)}],${filling}}`],
  ['a short one', `{"log":[${numbers(10)}],${filling}}`],
  ['an empty one', `{"log":[],${filling}}`],
  ['one with blanks around everything', `{"log": [ ${numbers(9999, ' ,\n\t\r')} ] , ${filling}}`],
  ['several', `{"log":[${numbers(999)}],"more":[{"log":[${numbers(70_000)}]},[${numbers(3)}]]}`],
  ['one at the very end of others', `{"more":[[${numbers(999)}]],"log":[${numbers(30_000)}]}`],
  ['whole numbers written with a point', `{"log":[${'1.0,'.repeat(40_000)}1e0]}`],
  [
    'text with brackets and quotes',
    `{"log":[${numbers(999)}],"text":"\\"[1,2,3]\\\\","\\"[":"[${numbers(40_000)}]"}`,
  ],
] as const) {
  test(`${what} is read as JSON.parse reads it`, async () => {
    const given = await parsedBody(Blobs, bytesOf(text))

    assert.deepEqual(JSON.parse(encodeJson(given)), JSON.parse(text))
    assert.ok(given.log instanceof Uint8Array)
  })
}

for (const [what, list] of [
  ['a number above 255', `${numbers(40_000)},256`],
  ['a number below 0', `${numbers(40_000)},-1`],
  ['a fraction', `${numbers(40_000)},1.5`],
  ['null', `${numbers(40_000)},null`],
  ['a number with leading zeros', `${numbers(40_000)},01`],
  ['a comma too many', `${numbers(40_000)},`],
  ['a comma too few', `${numbers(40_000)} 1`],
  ['no end', `${numbers(40_000)},1`.slice(0, -2)],
] as const) {
  test(`a long list with ${what} is refused`, async () => {
    const end = what === 'no end' ? '' : ']}'

    await assert.rejects(parsedBody(Blobs, bytesOf(`{"log":[${list}${end}`)), isRefusal(400))
  })
}

for (const [what, text, status] of [
  ['numbers that are no bytes', `{"log":[${'256,'.repeat(1_000_001)}0]}`, 400],
  ['empty texts', `{"log":[],"x":[${'"",'.repeat(1_000_001)}0]}`, 400],
  ['members', `{"log":[],"x":{${'"a":1,'.repeat(1_000_001)}"a":1}}`, 400],
  ['lists in lists', `{"log":${'['.repeat(70_000)}`, 400],
  ['characters of one text', `{"log":"${'x'.repeat(33 * 1024 * 1024)}"}`, 413],
] as const) {
  test(`more ${what} than any body needs are refused before they are made values`, async () => {
    await assert.rejects(parsedBody(Blobs, bytesOf(text)), isRefusal(status))
  })
}

function isRefusal(status: number): (error: unknown) => boolean {
  return (error) => error instanceof Refusal && error.status === status
}

test('a hundred megabytes of numbers are read with a heap of forty', { timeout: 500_000 }, async () => {
  const module = (path: string): string => new URL(`../../src/${path}`, import.meta.url).href
  const program = `
    const { parsedBody } = await import('${module('server/body.ts')}')
    const { RebuildReport } = await import('${module('wire/builds.ts')}')
    const head = '{"queue_id":1,"built_at":"2026-11-22T19:40:00","status":"GOOD","artifacts":[],"build_log":[1'
    const body = Buffer.concat([Buffer.from(head), Buffer.alloc(100_000_000, ',7'), Buffer.from(']}')])
    const report = await parsedBody(RebuildReport, body)
    console.log(report.build_log.length, report.build_log.at(-1))`
  const heap = ['--max-old-space-size=40', '--max-semi-space-size=4']
  const run = promisify(execFile)

  const { stdout } = await run(process.execPath, [...heap, '--input-type=module', '-e', program])

  assert.equal(stdout, '50000001 7\n')
})

test('others get their turn while a long body is read', async () => {
  let turns = 0
  const work = parsedBody(Blobs, bytesOf(`{"log":[${numbers(3_000_000)}]}`)).then(() => 'done')

  while ((await Promise.race([work, turn('a turn')])) !== 'done') turns += 1

  assert.ok(turns >= 10, `${turns} turns`)
})
