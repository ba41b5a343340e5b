module datakey-operator/testcluster/pause

go 1.26.0
