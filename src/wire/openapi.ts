import { toJsonSchema } from '@valibot/to-json-schema'
import type * as v from 'valibot'
import { hasBody, isSpecial, type Endpoint, type Special } from './endpoint.ts'

type Schema = Record<string, unknown>

/** How callers prove who they are, by the words of the table. */
const securities: Readonly<Record<Endpoint['caller'], readonly Schema[]>> = {
  anyone: [],
  'anyone or admin': [{}, { cookie: [] }],
  admin: [{ cookie: [] }],
  worker: [{ workerKey: [] }],
  signup: [{ workerKey: [], signupSecret: [] }],
  'worker or admin': [{ workerKey: [] }, { cookie: [] }],
}

/**
 * The table of endpoints as an OpenAPI 3.1 document (spec.openapis.org/oas/v3.1.0).
 * @param version of this program
 */
export function openApi(endpoints: readonly Endpoint[], version: string): Schema {
  const paths: Record<string, Record<string, Schema>> = {}
  for (const row of endpoints) {
    const methods = (paths[row.path] ??= {})
    methods[row.method.toLowerCase()] = operationOf(row)
  }
  const header = (name: string): Schema => ({ type: 'apiKey', in: 'header', name })
  return {
    openapi: '3.1.0',
    info: { title: 'rebuilderd', version, license: { name: 'MIT', identifier: 'MIT' } },
    paths,
    components: {
      securitySchemes: {
        cookie: header('X-Auth-Cookie'),
        workerKey: header('X-Worker-Key'),
        signupSecret: header('X-Signup-Secret'),
      },
    },
  }
}

function operationOf(row: Endpoint): Schema {
  const parameters = [...parametersOf(row.params, 'path'), ...parametersOf(row.query, 'query')]
  const body = hasBody(row)
    ? { requestBody: { required: true, content: json(schemaOf(row.body, 'input')) } }
    : {}
  return {
    summary: row.doc,
    parameters,
    ...body,
    responses: responsesOf(row),
    security: securities[row.caller],
  }
}

function parametersOf(fields: Endpoint['params'], place: 'path' | 'query'): Schema[] {
  const schema = schemaOf(fields, 'input')
  const properties = (schema['properties'] ?? {}) as Record<string, Schema> // an object's schema has them so
  const required = (schema['required'] ?? []) as string[]
  return Object.entries(properties).map(([name, type]) => ({
    name,
    in: place,
    required: place === 'path' || required.includes(name),
    schema: type,
  }))
}

/** Errors are one line of text, or nothing: there is no JSON for them. */
const lineOfText: Schema = { 'text/plain; charset=utf-8': { schema: { type: 'string' } } }
const retryAfter: Schema = { 'Retry-After': { description: 'Seconds to wait.', schema: { type: 'integer' } } }

/** What each status means, wherever it occurs. */
const refusals: Readonly<Record<number, Schema>> = {
  400: { description: 'The request cannot be understood; the body says why.', content: lineOfText },
  403: { description: 'Not allowed.' },
  404: { description: 'There is no such thing.' },
  406: { description: 'None of the content codings that the caller takes is known.', content: lineOfText },
  408: { description: 'The request did not arrive in time.' },
  409: { description: 'It does not fit what the server has; the body says why.', content: lineOfText },
  413: { description: 'The body, or the log to be followed, is too large.', content: lineOfText },
  429: {
    description: 'Too many failed attempts, or streams, of one address.',
    headers: retryAfter,
    content: lineOfText,
  },
  503: {
    description: 'Too many connections, streams or large bodies at once, or the database cannot be used.',
    headers: retryAfter,
    content: lineOfText,
  },
}

function responsesOf(row: Endpoint): Schema {
  const { reply, caller, path, conditional } = row
  const answer = isSpecial(reply)
    ? specialAnswer(reply)
    : { 200: { description: 'The answer.', content: json(schemaOf(reply, 'output')) } }
  const unchanged = conditional ? { 304: { description: 'The caller has it already, unchanged.' } } : {}
  const isForSome = !caller.startsWith('anyone')
  const isText = !isSpecial(reply) || reply.special === 'bytes'
  const statuses = [
    400,
    408,
    503,
    ...(isForSome ? [403, 429] : []),
    ...(path.includes('{') ? [404] : []),
    ...(isText ? [406] : []),
    ...(hasBody(row) ? [413] : []),
    ...row.refusals,
  ]
  return {
    ...answer,
    ...unchanged,
    ...Object.fromEntries(statuses.map((status) => [status, refusals[status]])),
  }
}

function specialAnswer({ special, type, isKept }: Special): Schema {
  if (special === 'none') return { 204: { description: 'Done.' } }
  if (special === 'gone') return { 501: { description: 'There is no such thing any more.' } }
  const whole = { 200: { description: 'The bytes.', content: { [type]: {} } } }
  return isKept === true ? { ...whole, ...ofKept(type) } : whole
}

function ofKept(type: string): Schema {
  return {
    206: { description: 'The part that was asked for.', content: { [type]: {} } },
    304: { description: 'The caller has it already, unchanged.' },
    416: { description: 'It has no such part.', content: lineOfText },
  }
}

function json(schema: Schema): Schema {
  return { 'application/json': { schema } }
}

/** JSON Schema of a shape; what a shape says of itself (dates, bytes) goes before what can be read off it. */
function schemaOf(shape: v.GenericSchema, mode: 'input' | 'output'): Schema {
  const { $schema: _, ...schema } = toJsonSchema(shape, {
    errorMode: 'ignore',
    typeMode: mode,
    overrideAction: ({ valibotAction, jsonSchema }) => ownSchema(valibotAction) ?? jsonSchema,
  }) as Schema
  return schema
}

/** As in `v.metadata({ jsonSchema: … })`. A shape says it before it transforms: of requests only what comes before counts. */
function ownSchema(action: object): Schema | undefined {
  const metadata = 'metadata' in action ? action.metadata : undefined
  return typeof metadata === 'object' && metadata !== null && 'jsonSchema' in metadata
    ? (metadata.jsonSchema as Schema) // as we wrote it
    : undefined
}
