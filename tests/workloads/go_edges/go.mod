module edges

go 1.20
