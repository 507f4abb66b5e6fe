-- Every request has a path of its own, so that a server which remembers heads gains nothing.
local count = 0

request = function()
  count = count + 1
  return wrk.format(nil, "/hello/" .. count)
end
