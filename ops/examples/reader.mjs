// Follows streams by the rules of ops/protocol.md: node reader.mjs KEY AFTER MARK, or such lines on stdin. Node 18, no packages.
// Prints a line of JSON per event. Exit code: 0 at the end, 3 when a stream was gone, 4 when nobody ends it and
// its deadline passed 60 s ago (READER_PATIENCE), 1 when REDIS_URL has not answered for 30 s.
import { once } from 'node:events'
import { connect } from 'node:net'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'

const TERMINAL = ['completed', 'failed', 'cancelled', 'expired'], BEGINNING = ['restarted', 'continued']
const server = new URL(process.env.REDIS_URL ?? 'redis://127.0.0.1:6379')
let socket, bytes

async function take(size) { // the next text of the connection: so many bytes, or up to the end of the line
  for (let end; (end = size ?? bytes.indexOf('\r\n')) < 0 || bytes.length < end + 2; ) {
    const chunk = socket.read()
    if (chunk) bytes = Buffer.concat([bytes, chunk])
    else if (socket.destroyed) throw new Error('connection lost') // its error event has passed: nobody would wake us
    else await once(socket, 'readable')
  }
  const end = size ?? bytes.indexOf('\r\n'), text = bytes.toString('utf8', 0, end)
  bytes = bytes.subarray(end + 2)
  return text
}

async function reply() { // RESP2
  const line = await take(), size = Number(line.slice(1)), items = []
  if (line[0] === '-') throw new Error(line)
  if (line[0] === '$' && size >= 0) return take(size)
  while (line[0] === '*' && items.length < size) items.push(await reply())
  return size >= 0 ? items : null
}

function ask(...words) {
  socket.write(`*${words.length}\r\n${words.map(word => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')}`)
  return reply()
}

async function call(...words) { // a connection that breaks is made again: to read twice does no harm
  for (const giveUp = Date.now() + 30_000; ; await sleep(100)) {
    try {
      if (!socket || socket.destroyed) {
        bytes = Buffer.alloc(0)
        socket = connect(Number(server.port || 6379), server.hostname).setTimeout(10_000, () => socket.destroy(new Error('no answer')))
        socket.on('end', () => socket.destroy(new Error('connection lost'))).on('error', () => {})
        if (server.password) await ask('AUTH', server.username || 'default', decodeURIComponent(server.password))
        await ask('SELECT', server.pathname.slice(1) || '0')
      }
      return await ask(...words)
    } catch (error) {
      socket.destroy()
      if (Date.now() > giveUp) throw error
    }
  }
}

const event = ([id, flat]) => ({ id, fields: Object.fromEntries(flat.flatMap((name, i) => (i % 2 ? [] : [[name, flat[i + 1]]]))) })

async function overdue(stream, newest) { // whether nobody ends what should have ended, by the server's clock
  const [first] = (await call('XRANGE', stream, '-', '+', 'COUNT', '1')).map(event)
  const [seconds] = await call('TIME'), edge = (Number(seconds) - Number(process.env.READER_PATIENCE ?? 60)) * 1000
  return Number(first?.fields.deadline) < edge && Number(newest.id.split('-')[0]) < edge
}

async function follow(stream, last, mark) { // returns the exit code
  let attempt = '0', seen = 0, run, rewound = false, wait = 1, ended = false
  const isEnd = fields => TERMINAL.includes(fields.type) || (fields.type === 'left' && fields.mark === mark)
  const show = (id, fields) => console.log(JSON.stringify({ stream, id, type: fields.type, fields }))
  const restart = (id, attempt) => show(id, { type: 'restarted', v: '1', attempt, n: '0', reason: 'lost' })
  const [behind] = (await call('XRANGE', stream, last, last)).map(event) // the entry we resume behind
  if (behind && isEnd(behind.fields)) return 0
  if (behind) [attempt, seen, run] = [behind.fields.attempt, Number(behind.fields.n), behind.fields.run]
  if (seen === 0 && behind && !BEGINNING.includes(behind.fields.type)) seen = -1 // who knows how far its attempt had come
  if (!behind && /[1-9]/.test(last)) [attempt, seen] = ['', Infinity] // lost: who knows what was shown
  for (;;) {
    const answer = await call('XREAD', 'COUNT', '256', 'BLOCK', `${wait}`, 'STREAMS', stream, last)
    if (!answer) { // nothing came: is the stream still there, and may anything come?
      if (ended) return 0
      const [newest] = (await call('XREVRANGE', stream, '+', '-', 'COUNT', '1')).map(event)
      if (!newest) return 3
      ended = TERMINAL.includes(newest.fields.type)
      if (!ended && (await overdue(stream, newest))) return 4
      wait = ended ? 1 : 2000
    }
    for (const { id, fields } of answer ? answer[0][1].map(event) : []) {
      const n = Number(fields.n), expected = seen < 0 || (attempt === `${fields.attempt - 1}` && seen === Number(fields.kept))
      const goesOn = fields.type === 'continued' ? expected : n <= 1 || fields.attempt === attempt
      last = id
      if (fields.type === 'left' && fields.mark !== mark) continue // the end of another job aboard
      if (fields.type === 'started' && fields.run !== run) { // another run, whatever its number
        if (seen > 1) restart(id, fields.attempt)
        run = fields.run
      } else if (n > 0 && fields.attempt === attempt && n <= seen) continue // a repeat
      else if (!goesOn && attempt !== '0' && !rewound) { // not what was shown: from the beginning
        restart('0-0', fields.attempt)
        ;[last, attempt, seen, run, rewound] = ['0-0', '0', 0, undefined, true]
        break
      }
      if (n > 0 || BEGINNING.includes(fields.type)) [attempt, seen] = [fields.attempt, n]
      show(id, fields)
      if (isEnd(fields)) return 0
    }
  }
}

const lines = process.argv.length > 2 ? [process.argv.slice(2).join(' ')] : createInterface(process.stdin)
let code = 0
for await (const line of lines) code = Math.max(code, await follow(...line.trim().split(/\s+/)))
process.exit(code)
