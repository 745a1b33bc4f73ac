package deploy

import _ "github.com/apache/openwhisk-client-go/whisk"
