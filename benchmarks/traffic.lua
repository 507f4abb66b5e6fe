-- Requests as browsers send them, no two alike:
--   wrk … -s traffic.lua URL -- LOAD SEED [close]
-- LOAD is json or mix (of others, the URL says all); another SEED makes other requests; with close, each has a
-- connection of its own. What can be made once is made once: a request costs one or two string.format.
-- The last line of the output is one of JSON, which traffic_loads.py reads.

local format, random = string.format, math.random
local threads = {}
local load, connection, address

local BROWSERS = {
  -- Chromium's fields, in its order.
  { "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36", '"Windows"' },
  { "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36", '"macOS"' },
  { "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36", '"Linux"' },
  -- Firefox's.
  { "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:145.0) Gecko/20100101 Firefox/145.0" },
  { "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0" },
}
local PURPOSES = {
  fetch = { accept = "application/json, text/plain, */*", mode = "cors", dest = "empty", priority = "u=4" },
  page = { accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", mode = "navigate", dest = "document", priority = "u=0, i" },
  style = { accept = "text/css,*/*;q=0.1", mode = "no-cors", dest = "style", priority = "u=2" },
  script = { accept = "*/*", mode = "no-cors", dest = "script", priority = "u=2" },
  image = { accept = "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5", mode = "no-cors", dest = "image", priority = "u=5, i" },
}
local LANGUAGES = { "en-US,en;q=0.9", "de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7", "fr,fr-FR;q=0.8,en-US;q=0.5,en;q=0.3" }
local WORDS = { "anchor", "blue+lamp", "caf%C3%A9", "desk", "evening", "f%C3%BCr+zwei", "garden", "harbour", "iron", "jam%26bread", "kettle", "linen", "mirror", "north", "oak", "paper" }
-- Assets have this time (traffic_apps/answers.py gives it to them), so that what asks with it gets a 304.
local MODIFIED = "If-Modified-Since: Thu, 01 Jan 2026 00:00:00 GMT\r\n"

-- The slots: method, target, fields of its own, Referer's number and word, request id (five), session,
-- CSRF token, visitor (two).
local REST = "Referer: http://%s/pages/%%d?from=%%s\r\n" .. "Accept-Encoding: gzip, deflate, br, zstd\r\n" .. "Accept-Language: %s\r\n"
  .. "X-Request-ID: %%08x-%%04x-4%%03x-a%%03x-%%08x5afe\r\n"
  .. "Cookie: sessionid=s%%031d; csrftoken=%%s; _ga=GA1.1.%%d.%%d; theme=dark; consent=all\r\n\r\n"

local templates = {}
for purpose in pairs(PURPOSES) do templates[purpose] = {} end

local function escaped(text) return (text:gsub("%%", "%%%%")) end

local function template(browser, language, purpose)
  local agent, platform = browser[1], browser[2]
  local rest = format(REST, address, language)
  if platform then
    return "%s %s HTTP/1.1\r\nHost: " .. address .. "\r\nConnection: " .. connection .. "\r\n"
      .. "sec-ch-ua-platform: " .. platform .. "\r\nUser-Agent: " .. agent .. "\r\nAccept: " .. escaped(purpose.accept) .. "\r\n"
      .. 'sec-ch-ua: "Chromium";v="142", "Google Chrome";v="142", "Not_A Brand";v="99"\r\nsec-ch-ua-mobile: ?0\r\n%s'
      .. "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: " .. purpose.mode .. "\r\nSec-Fetch-Dest: " .. purpose.dest .. "\r\n" .. rest
  end
  return "%s %s HTTP/1.1\r\nHost: " .. address .. "\r\nUser-Agent: " .. agent .. "\r\nAccept: " .. escaped(purpose.accept) .. "\r\n%s"
    .. "Connection: " .. connection .. "\r\nSec-Fetch-Dest: " .. purpose.dest .. "\r\nSec-Fetch-Mode: " .. purpose.mode .. "\r\n"
    .. "Sec-Fetch-Site: same-origin\r\nPriority: " .. purpose.priority .. "\r\n" .. rest
end

local function head(purpose, method, target, fields, token)
  local kinds = templates[purpose]
  return format(kinds[random(#kinds)], method, target, fields, random(100000), WORDS[random(#WORDS)],
    random(0, 4294967295), random(0, 65535), random(0, 4095), random(0, 4095), random(0, 4294967295),
    random(0, 999), token, random(1000000000), random(1000000000))
end

local tokens, small, large = {}, {}, {}

local function lines(count)
  local list = {}
  for number = 1, count do
    list[number] = format('{"sku":"%08x","title":"Lamp, %s","quantity":%d,"price":%d}',
      random(0, 4294967295), WORDS[random(#WORDS)], random(9), random(100000))
  end
  return "[" .. table.concat(list, ",") .. "]"
end

local function prepare()
  for number = 1, 64 do tokens[number] = format("%08xAbCdEfGhIjKlMnOpQrStUvWx", random(0, 4294967295)) end
  for number = 1, 64 do small[number] = lines(13) end
  for number = 1, 8 do large[number] = lines(870) end
end

local function token() return tokens[random(#tokens)] end

local function item()
  local target = format("/api/items/%d/%x?q=%s&page=%d&t=%x", random(1000000), random(0, 4294967295),
    WORDS[random(#WORDS)], random(100), random(0, 4294967295))
  return head("fetch", "GET", target, "", token())
end

local function page()
  local target = format("/pages/%d?from=%s&t=%x", random(1000000), WORDS[random(#WORDS)], random(0, 4294967295))
  return head("page", "GET", target, "Upgrade-Insecure-Requests: 1\r\n", token())
end

local function feed()
  local number = random(1000000)
  return head("fetch", "GET", format("/feeds/%d?t=%x", number, random(0, 4294967295)),
    format('If-None-Match: "feed-%d"\r\n', number), token())
end

local function order(lists)
  local secret = token()
  local body = format('{"id":%d,"customer":"customer-%x","lines":%s}', random(1000000000), random(0, 4294967295), lists[random(#lists)])
  local fields = format("Content-Type: application/json\r\nContent-Length: %d\r\nX-CSRFToken: %s\r\nOrigin: http://%s\r\n", #body, secret, address)
  return head("fetch", "POST", format("/api/orders?t=%x", random(0, 4294967295)), fields, secret) .. body
end

local function form()
  local secret = token()
  local body = format("csrfmiddlewaretoken=%s&name=visitor-%x&email=a%x%%40example.org&message=%s+and+%s",
    secret, random(0, 4294967295), random(0, 4294967295), WORDS[random(#WORDS)], WORDS[random(#WORDS)])
  local fields = format("Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\nOrigin: http://%s\r\n", #body, address)
  return head("page", "POST", format("/contact?t=%x", random(0, 4294967295)), fields, secret) .. body
end

local function asset(purpose, name, fields)
  return function() return head(purpose, "GET", "/static/" .. name, fields, token()) end
end

-- What 100 requests are, in the mix. A page is followed by its assets, of which half are there already.
local function cycle()
  local list = {}
  local function add(count, ...)
    for _ = 1, count do table.insert(list, { ... }) end
  end
  add(40, item)
  add(6, page, asset("style", "app.css", MODIFIED), asset("script", "app.js", MODIFIED), asset("image", "logo.png", ""))
  add(3, page, asset("style", "app.css", ""), asset("script", "app.js", ""), asset("image", "logo.png", MODIFIED))
  add(8, feed)
  add(9, function() return order(small) end)
  add(2, function() return order(large) end)
  add(5, form)
  for number = #list, 2, -1 do
    local other = random(number)
    list[number], list[other] = list[other], list[number]
  end
  local flat = {}
  for _, group in ipairs(list) do
    for _, each in ipairs(group) do table.insert(flat, each) end
  end
  return flat
end

function setup(thread) table.insert(threads, thread) end

function init(args)
  load = args[1]
  connection = args[3] or "keep-alive"
  address = wrk.port and wrk.host .. ":" .. wrk.port or wrk.host
  math.randomseed(tonumber(args[2]))
  if load ~= "json" and load ~= "mix" then
    -- The same request each time is wrk's own work; the URL says which.
    response = nil
    return
  end
  for name, purpose in pairs(PURPOSES) do
    for _, browser in ipairs(BROWSERS) do
      for _, language in ipairs(LANGUAGES) do table.insert(templates[name], template(browser, language, purpose)) end
    end
  end
  prepare()
  local kinds, count = load == "mix" and cycle() or { item }, 0
  request = function()
    count = count + 1
    return kinds[count % #kinds + 1]()
  end
end

-- wrk itself counts but statuses from 400 on as errors.
full, unmodified, other, example, empty = 0, 0, 0, 0, 0

function response(status, headers, body)
  if status == 304 then
    unmodified = unmodified + 1
  elseif status ~= 200 then
    other, example = other + 1, status
  elseif #body == 0 then
    empty = empty + 1
  else
    full = full + 1
  end
end

function done(summary, latency, requests)
  local counts = { full = 0, unmodified = 0, other = 0, empty = 0 }
  local seen = 0
  for _, thread in ipairs(threads) do
    for name in pairs(counts) do counts[name] = counts[name] + thread:get(name) end
    seen = math.max(seen, thread:get("example"))
  end
  local errors = summary.errors
  print(format('{"requests":%d,"seconds":%f,"bytes":%d,"p50":%f,"p99":%f,"slowest":%f,"full":%d,"unmodified":%d,"other":%d,"example":%d,"empty":%d,'
    .. '"connect":%d,"read":%d,"write":%d,"timeout":%d,"status":%d}',
    summary.requests, summary.duration / 1e6, summary.bytes, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3,
    counts.full, counts.unmodified, counts.other, seen, counts.empty, errors.connect, errors.read, errors.write, errors.timeout, errors.status))
end
