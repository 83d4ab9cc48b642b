// Comfort only: every page says the same without it. Times become local, filters apply at once, parts of a page
// that changed are fetched again when the server tells of an event, and the log of a running job grows.
const { base = '', live } = document.body.dataset

/** Moments in the reader's own time; the title keeps UTC. */
function localTimes(root) {
  for (const element of root.querySelectorAll('time[datetime]')) {
    const moment = new Date(element.dateTime)
    if (Number.isNaN(moment.getTime()) || element.title !== '') continue
    const two = (number) => String(number).padStart(2, '0')
    element.title = `${element.textContent} UTC`
    element.textContent = `${moment.getFullYear()}-${two(moment.getMonth() + 1)}-${two(moment.getDate())} ${two(moment.getHours())}:${two(moment.getMinutes())}`
  }
}

/** Fetches this page again and puts the parts that differ in place of the old ones. */
async function refresh() {
  const reply = await fetch(location.href, { headers: { accept: 'text/html' } })
  if (reply.redirected) return location.replace(reply.url) // what was waited for is over already
  if (!reply.ok && reply.status !== 404) return
  const fresh = new DOMParser().parseFromString(await reply.text(), 'text/html')
  if (!reply.ok)
    return document.querySelector('main').replaceChildren(...fresh.querySelector('main').childNodes)
  document.title = fresh.title
  for (const part of fresh.querySelectorAll('[data-live-part]')) {
    const old = document.querySelector(`[data-live-part="${CSS.escape(part.dataset.livePart)}"]`)
    localTimes(part)
    if (old === null || old.innerHTML === part.innerHTML || old.contains(document.activeElement)) continue
    old.replaceChildren(...part.childNodes)
    old.classList.remove('fresh')
    requestAnimationFrame(() => old.classList.add('fresh'))
  }
  followLogs()
}

/**
 * Listens to a stream while somebody looks at the page: a browser has few connections for all its tabs. Goes on after
 * a server was away, later each time.
 * @param addressOf tells where to listen now
 * @param on what to do with each kind of event
 * @returns ends it
 */
function listen(addressOf, on) {
  let [source, timer, wait, isOver] = [null, null, 2000, false]
  const stop = () => {
    clearTimeout(timer)
    source?.close()
    source = null
  }
  const start = () => {
    stop()
    if (isOver || document.hidden) return
    source = new EventSource(addressOf())
    source.addEventListener('open', () => (wait = 2000))
    source.addEventListener('error', () => {
      if (source?.readyState !== EventSource.CLOSED) return // else the browser itself tries again
      stop()
      timer = setTimeout(start, wait * (0.5 + Math.random()))
      wait = Math.min(wait * 2, 60_000)
    })
    for (const [kind, act] of Object.entries(on)) source.addEventListener(kind, act)
  }
  document.addEventListener('visibilitychange', start)
  addEventListener('pagehide', stop)
  addEventListener('pageshow', (event) => event.persisted && start())
  start()
  return () => {
    isOver = true
    stop()
  }
}

/** Looks again soon after an event: once for many, not all readers at the same moment, and not while nobody looks. */
function watchEvents(kinds) {
  // Where one event is waited for, it may have come between the page and the watch.
  let [waiting, isFirst] = [null, document.querySelector('[data-waits]') === null]
  const soon = () => {
    if (waiting !== null || document.hidden) return
    waiting = setTimeout(
      () => {
        waiting = null
        refresh().catch(() => undefined)
      },
      300 + Math.random() * 700,
    )
  }
  const on = Object.fromEntries(kinds.split(',').map((kind) => [kind, soon]))
  // Whoever was away, or the server, may have missed something.
  const open = () => {
    if (!isFirst) soon()
    isFirst = false
  }
  return listen(() => `${base}/api/v1/events?kinds=${encodeURIComponent(kinds)}`, { ...on, open })
}

const mostLines = 5000

/** Colour sequences and other controls out, what could turn or hide text visible; as the server does. */
function harmless(text) {
  return text
    .replace(/\u001b\[[\d;:?<=>]{0,40}[ -/]{0,4}[@-~]|\u001b\][^\u0007\u001b]{0,400}(?:\u0007|\u001b\\)/g, '')
    .replace(/.*\r(?!$)/, '')
    .replace(/\r$/, '')
    .replace(
      /[\u0000-\u0008\u000a-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]|(?![\ufe00-\ufe0f])\p{Default_Ignorable_Code_Point}/gu,
      (mark) => `\\u${mark.codePointAt(0).toString(16).padStart(4, '0')}`,
    )
    .slice(0, 2000)
}

/** Follows the log on the page, if there is one; it tells of its end by itself. */
function followLogs() {
  const box = document.querySelector('[data-log]')
  if (box === null) return
  stopWatching?.()
  followLog(box)
}

/** Adds what a running job writes to the log on the page, as text. */
function followLog(box) {
  const code = box.querySelector('code')
  const state = document.querySelector('[data-log-state]')
  let number = Number(code.querySelector('.line:last-of-type .n')?.textContent ?? 0)
  let rest = ''
  const add = (text) => {
    const line = document.createElement('span')
    line.className = 'line'
    line.id = `L${++number}`
    const link = document.createElement('a')
    link.className = 'n'
    link.href = `#L${number}`
    link.textContent = String(number)
    link.setAttribute('aria-label', `Line ${number}`)
    line.append(link, `${harmless(text)}\n`)
    code.append(line)
  }
  let offset = box.dataset.offset
  state.textContent = 'The log grows here while the build runs.'
  const log = box.querySelector('.log')
  log.scrollTop = log.scrollHeight
  const end = listen(() => `${box.dataset.log}&offset=${offset}`, {
    log(event) {
      const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40
      const piece = JSON.parse(event.data)
      offset = piece.offset
      const lines = (rest + piece.text).split('\n')
      rest = lines.pop().slice(0, 4000)
      number += Math.max(0, lines.length - mostLines)
      for (const line of lines.slice(-mostLines)) add(line)
      while (code.childElementCount > mostLines) code.firstElementChild.remove()
      if (isAtEnd) log.scrollTop = log.scrollHeight
    },
    end(event) {
      end()
      if (rest !== '') add(rest)
      const build = JSON.parse(event.data).build_id
      state.textContent = build === null ? 'The job has ended without a result.' : 'The build has ended: '
      if (build === null) return
      const link = document.createElement('a')
      link.href = `${box.dataset.done}${Number(build)}`
      link.textContent = 'see the verdict'
      state.append(link)
    },
  })
}

/** Filters apply as soon as they are chosen; empty fields stay out of the address. */
function comfort() {
  const form = document.querySelector('form.filters')
  form?.addEventListener('change', (event) => {
    if (event.target instanceof HTMLSelectElement) form.requestSubmit()
  })
  form?.addEventListener('formdata', ({ formData }) => {
    const fields = Array.from(formData)
    for (const [name, value] of fields)
      if (value === '' || (name === 'sort' && value === 'name')) formData.delete(name)
  })
  document.addEventListener('keydown', (event) => {
    const isWriting = event.target instanceof Element && event.target.matches('input, select, textarea')
    if (event.key !== '/' || isWriting || event.ctrlKey || event.metaKey || event.altKey) return
    const field = document.querySelector('#q') ?? document.querySelector('#find')
    event.preventDefault()
    field?.focus()
  })
}

localTimes(document)
comfort()
const stopWatching = live === undefined ? undefined : watchEvents(live)
followLogs()
