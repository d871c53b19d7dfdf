Radio B&B <x>
all day
various
https://radio.example

GET /status-json.xsl HTTP/1.1
Host: h
Icy-MetaData: 1

