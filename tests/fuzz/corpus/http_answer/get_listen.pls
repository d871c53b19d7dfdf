Radio B&B <x>
all day
various
https://radio.example

GET /listen.pls HTTP/1.1
Host: h
Icy-MetaData: 1

