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
  if (!reply.ok) return
  const fresh = new DOMParser().parseFromString(await reply.text(), 'text/html')
  for (const part of fresh.querySelectorAll('[data-live-part]')) {
    const old = document.querySelector(`[data-live-part="${CSS.escape(part.dataset.livePart)}"]`)
    localTimes(part)
    if (old === null || old.innerHTML === part.innerHTML || old.contains(document.activeElement)) continue
    old.replaceChildren(...part.childNodes)
    old.classList.remove('fresh')
    requestAnimationFrame(() => old.classList.add('fresh'))
  }
}

/** Looks again soon after an event: once for many, not all readers at the same moment, and not while nobody looks. */
function watchEvents(kinds) {
  let waiting = null
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
  const source = new EventSource(`${base}/api/v1/events?kinds=${encodeURIComponent(kinds)}`)
  for (const kind of kinds.split(',')) source.addEventListener(kind, soon)
  document.addEventListener('visibilitychange', soon)
  addEventListener('pagehide', () => source.close())
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

/** Adds what a running job writes to the log on the page, as text. */
function followLog(box) {
  const code = box.querySelector('code')
  const log = box.querySelector('.log')
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
  const source = new EventSource(`${box.dataset.log}&offset=${box.dataset.offset}`)
  state.textContent = 'The log grows here while the build runs.'
  source.addEventListener('log', (event) => {
    const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40
    const lines = (rest + JSON.parse(event.data).text).split('\n')
    rest = lines.pop().slice(-4000)
    for (const line of lines.slice(-mostLines)) add(line)
    while (code.childElementCount > mostLines) code.firstElementChild.remove()
    if (isAtEnd) log.scrollTop = log.scrollHeight
  })
  source.addEventListener('end', (event) => {
    source.close()
    if (rest !== '') add(rest)
    const build = JSON.parse(event.data).build_id
    state.textContent = build === null ? 'The job has ended without a result.' : 'The build has ended: '
    if (build === null) return
    const link = document.createElement('a')
    link.href = `${box.dataset.done}${Number(build)}`
    link.textContent = 'see the verdict'
    state.append(link)
  })
  addEventListener('pagehide', () => source.close())
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
if (live !== undefined) watchEvents(live)
const log = document.querySelector('[data-log]')
if (log !== null) followLog(log)
